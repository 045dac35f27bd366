"""Every arm, every seed, one parent run: does synthetic data make the classifier better?

    python experiments/compare.py --dataset mnist --methods ddpm vae gan --n-real 1000 60000 --seeds 3 --workers 2
    python -m analysis.accuracy_table

The same command goes on where it stopped, and with more seeds, methods or sizes it adds to the same
comparison. A generator whose finished run the store already has is not trained again, and one that differs
from it only in how it is sampled takes over its weights.
"""

from harness import cli, tracking
from harness.engine import forking
from harness.studies.plans import ComparisonPlan, Hyperparameters


def main(
    plan: ComparisonPlan = ComparisonPlan(),
    hyperparameters: Hyperparameters = Hyperparameters(),  # pyright: ignore[reportInvalidTypeForm]
) -> int:
    """Train every generator and every arm's classifier, at every n_real and seed, under one parent run."""
    forking.start_fork_server()
    from analysis import answer
    from harness.studies.comparison import compare

    compare(plan, hyperparameters, answer.log)
    return tracking.exit_code()


if __name__ == "__main__":
    cli.main(main)
