"""What a trial costs beside its training: suggestion, process, run, storage, for several numbers of workers.

    python tests/benchmarks/studies.py --against 2ef4fe4

Whole studies of a VAE's trainings of one step, 20 samples, each from the command line: the time between the first
trial's beginning and the last one's end as the study has them, per trial, times the workers. `--against`: a revision
that does the same beside it, in turns, from a git worktree of its own, in this environment.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd
import paths  # noqa: F401
from processes import ROOT, environment

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", help="a revision that is measured beside this one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="studies-") as name:
        sources, rows = {"this": ROOT}, []
        if arguments.against:
            sources[arguments.against] = Path(name) / "against"
            add = ["git", "-C", str(ROOT), "worktree", "add", "--detach", str(sources[arguments.against])]
            subprocess.run([*add, arguments.against], check=True, capture_output=True)
        try:
            for source in sources:
                (Path(name) / f"of {source}").mkdir()
                study(sources[source], Path(name) / f"of {source}", 1)  # makes the store and the judge
            for _ in range(arguments.rounds):
                for workers in arguments.workers:
                    for source, path in sources.items():
                        took = study(path, Path(name) / f"of {source}", workers)
                        rows.append({"revision": source, "workers": workers, **took})
                        print(rows[-1], file=sys.stderr)
        finally:
            if arguments.against:
                remove = ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(sources[arguments.against])]
                subprocess.run(remove, check=True)
    frame = pd.DataFrame(rows).groupby(["workers", "revision"], sort=False)[["start, s", "ms per trial"]]
    middle, low, high = frame.median(), frame.min(), frame.max()
    words = {
        column: [
            f"{m:.3g} [{a:.3g}, {b:.3g}]" for m, a, b in zip(middle[column], low[column], high[column], strict=True)
        ]
        for column in middle
    }
    print(pd.DataFrame(words, index=middle.index).reset_index().to_markdown(index=False))


if __name__ == "__main__":
    main()
