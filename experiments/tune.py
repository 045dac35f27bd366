"""A study of one generator's hyperparameters, one trial after the other, or many at once on any number of hosts.

    python experiments/tune.py gan --dataset mnist --n-real 2000 --trials 24 --workers 2
    python experiments/tune.py gan --cluster tcp://HOST:8786 --tracking-uri http://HOST:5000    # a Dask cluster's slots
    python experiments/tune.py vae --objectives cas train_seconds                               # a Pareto front
    python -m analysis.studies                             # what its run in MLflow has, and of a study that goes on

The same command goes on where the study stopped, after Ctrl-C, a crash or a power cut.
"""

from harness import cli, tracking
from harness.engine import forking
from harness.studies.plans import StudyPlan


def main(plan: StudyPlan) -> int:
    """Search a method's hyperparameters, each trial a run, then hold the winner against the default."""
    forking.start_fork_server()
    from analysis import study_answer
    from harness.studies.tuning import tune

    tune(plan, study_answer.log)
    return tracking.exit_code()


if __name__ == "__main__":
    cli.main(main)
