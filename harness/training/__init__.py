"""The only training loop, and what makes it resumable: checkpoints, launch, optimizers, sample sets.

Trains whatever has a `step(batch, step)`. May import `data`; knows no generator, no classifier and no store: what it
logs to is anything that takes metrics.
"""
