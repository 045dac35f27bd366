"""Many runs: comparisons of arms over seeds and numbers of images, and Optuna's studies of hyperparameters.

With `harness.storages` the only place that knows Optuna. The uppermost room: it may import every other one, and only
scripts import it.
"""
