"""What a study costs beside its trainings: storage, logging, start-up, for several numbers of workers.

    python tests/benchmark_studies.py

In turns, in one run: Optuna's `study.optimize` alone with an objective that does nothing, the study's queue with the
same, and whole trials (a VAE's training of one step, 20 samples). Seconds of wall time per trial, times the workers;
the start is the time until the first trial of a worker begins.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
import tyro
from optuna.samplers import RandomSampler

from harness import experiment, methods, postgres, storages, studies, tuning
from harness.settings import Single
from harness.studies import Queue, Slot
from harness.trials import Plan

TRIALS_PER_WORKER = 6
TINY = ("--n-real", "100", "--num-synthetic", "20", "--steps", "1", "--batch-size", "16", "--objectives",
        "conditional_accuracy", "--pruner", "none", "--confirm-seeds", "0")  # fmt: skip


def nothing(trial: optuna.Trial, _: Slot | None = None) -> float:
    return trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True)


def bare(place: str, name: str, trials: int) -> None:
    study = optuna.load_study(study_name=name, storage=storages.open_storage(place), sampler=RandomSampler())
    study.optimize(nothing, n_trials=trials)


def queued(place: str, name: str, trials: int) -> None:
    Queue(name, storages.open_storage(place), RandomSampler()).work(slots(trials), nothing)


def slots(number: int) -> list[Slot]:
    return [Slot(str(index)) for index in range(number)]


def timed(number: int, function: Callable[..., None], *arguments: object) -> float:
    start = time.perf_counter()
    _in_processes(number, function, *arguments)
    return time.perf_counter() - start


def _in_processes(number: int, function: Callable[..., None], *arguments: object) -> None:
    """Forked, so that their start takes nothing."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=function, args=arguments) for _ in range(number)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0


def whole(plan: Plan) -> tuple[float, float]:
    """Seconds until the first trial begins, and from there to the end."""
    start = time.time()
    with contextlib.redirect_stdout(io.StringIO()):
        tuning.tune(plan)
    trials = studies.read(plan.study, plan.place).trials
    first = min(trial.datetime_start.timestamp() for trial in trials if trial.datetime_start)
    last = max(trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete)
    return first - start, last - first


def plan(place: str, name: str, number: int, processes: int = 1) -> Plan:
    trials = TRIALS_PER_WORKER * number if processes == 1 else 3
    flags = ("--storage", place, "--name", name, "--workers", str(number), "--trials", str(trials))
    return tyro.cli(Plan, args=["vae", *TINY, *flags, "--processes-per-trial", str(processes)])


def measure(place: str, kind: str, counts: list[int]) -> list[dict[str, object]]:
    rows = []
    for number in counts:
        trials = TRIALS_PER_WORKER * number
        for name in ("bare", "queued"):
            studies.make(f"{name} {number}", storages.open_storage(place), ["maximize"], {}, lambda: "none")
        alone = timed(number, bare, place, f"bare {number}", TRIALS_PER_WORKER)
        Queue(f"queued {number}", storages.open_storage(place)).enqueue(slots(trials))
        queue = timed(number, queued, place, f"queued {number}", trials)
        start, trial = whole(plan(place, f"whole {number}", number))
        rows.append(
            {"storage": kind, "workers": number, "study.optimize, ms": 1e3 * alone / trials * number,
             "queue, ms": 1e3 * queue / trials * number, "whole trial, ms": 1e3 * trial / trials * number,
             "start, s": start}
        )  # fmt: skip
        print(rows[-1], file=sys.stderr)
    return rows


def warm() -> None:
    """The judge is trained, and the store made, before anything is timed."""
    with contextlib.redirect_stdout(io.StringIO()):
        experiment.generator("vae", methods.find("vae").Config(steps=1), Single(n_real=100, num_synthetic=20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 4, 8])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="studies-") as folder:
        os.chmod(folder, 0o755)
        os.chdir(folder)
        warm()
        rows = measure("outputs/studies.journal", "file", arguments.workers)
        with postgres.running(Path(folder) / "postgres") as url:
            rows += measure(url, "PostgreSQL", arguments.workers)
        _, spanning = whole(plan("outputs/studies.journal", "spanning", 1, processes=2))
        print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"))
        print(f"\na trial that spans 2 processes: {spanning / 3:.1f} s, all of it their start")


if __name__ == "__main__":
    main()
