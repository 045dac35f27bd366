"""What a trial costs beside its training: suggestion, process, run, storage, for several numbers of workers.

    python tests/benchmarks/studies.py --against 2ef4fe4

Whole studies of a VAE's trainings of one step, 20 samples, each from the command line: the time between the first
trial's beginning and the last one's end as the study has them, per trial, times the workers. `--against`: a revision
that does the same beside it, in turns, from a git worktree of its own, in this environment.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from operator import itemgetter
from pathlib import Path

import optuna
import pandas as pd
import paths  # noqa: F401
from processes import ROOT, environment
from turns import spread, take_turns, worktree

from harness import cli
from harness.bounds import Count

TRIALS_PER_WORKER = 6
TINY = ("vae", "--dataset", "digits", "--n-real", "100", "--num-synthetic", "20", "--steps", "1", "--batch-size", "16",
        "--objectives", "conditional_accuracy", "--pruner", "none", "--confirm-seeds", "0")  # fmt: skip


def study(source: Path, folder: Path, workers: int) -> dict[str, float]:
    """Seconds until the first trial begins, and ms per trial and worker from there."""
    trials, name = TRIALS_PER_WORKER * workers, f"{workers} {time.time_ns()}"
    flags = ("--name", name, "--workers", str(workers), "--trials", str(trials), "--storage", "sqlite:///studies.db")
    began = time.time()
    sources = os.pathsep.join((str(source), str(source / "tests")))
    subprocess.run(
        [sys.executable, str(source / "experiments/tune.py"), *TINY, *flags],
        cwd=folder, env=environment() | {"PYTHONPATH": sources}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    found = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/studies.db").trials
    first = min(trial.datetime_start.timestamp() for trial in found if trial.datetime_start)
    last = max(trial.datetime_complete.timestamp() for trial in found if trial.datetime_complete)
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in found)
    return {"start, s": first - began, "ms per trial": 1e3 * (last - first) / trials * workers}


def main(workers: tuple[Count, ...] = (1, 4, 8), rounds: Count = 3, against: str | None = None) -> None:
    """Measure studies in turns, for each number of workers, and those of a revision beside them; print a table."""
    with contextlib.ExitStack() as kept:
        name = kept.enter_context(tempfile.TemporaryDirectory(prefix="studies-"))
        sources = {"this": ROOT}
        if against:
            sources[against] = kept.enter_context(worktree(against))
        for source in sources:
            (Path(name) / f"of {source}").mkdir()
            study(sources[source], Path(name) / f"of {source}", 1)  # makes the store and the judge
        turns = take_turns(
            {
                f"{number} workers, {source}": partial(study, path, Path(name) / f"of {source}", number)
                for number in workers
                for source, path in sources.items()
            },
            rounds,
        )
    figures = {figure: turns.map(itemgetter(figure)).apply(spread) for figure in ("start, s", "ms per trial")}
    print(pd.DataFrame(figures).to_markdown())


if __name__ == "__main__":
    cli.main(main)
