"""What a cell of a comparison takes of the processor beside its computing: process, run, driver, agent.

    python tests/benchmarks/cells.py

Whole comparisons of trainings of one step, from the command line: what further seeds add, per cell, of the whole
machine's time, which must be quiet. Beside it what the same trainings, samplings and scores take in one process without
runs; the difference is the harness.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path

import paths  # noqa: F401
import psutil
import torch
from processes import ROOT, environment
from turns import spread, take_turns

from harness import cli, tracking
from harness.bounds import Count
from harness.evaluation import classifier
from harness.methods import vae
from harness.runs import arms, classifiers, generators
from harness.settings import Single, load_dataset
from harness.tracking import inputs
from harness.tracking.writing import Run

CONTROLS = ("noise", "duplicate", "affine")
CELLS = 3 + len(CONTROLS)
"""Of a seed: `none`, a generator, its samples, the controls."""
TINY = {"n_real": 100, "num_synthetic": 20, "cas_steps": 1}
SETTLE_S = 1.0
"""For the agent to send the last figures."""
FIRST = count(1000, 1000)


def busy_s() -> float:
    """Processor time that this machine has spent."""
    spent = psutil.cpu_times()
    return spent.user + spent.nice + spent.system


def comparison(folder: Path, seeds: int) -> float:
    """Processor-seconds of a comparison of so many seeds."""
    begun = busy_s()
    subprocess.run(
        [
            sys.executable, str(ROOT / "experiments/compare.py"), "--n-real", "100", "--num-synthetic", "20",
            "--cas-steps", "1", "--vae.steps", "1", "--vae.batch-size", "16", "--classifier.steps", "1",
            "--methods", "vae", "--controls", *CONTROLS, "--seeds", str(seeds), "--first-seed", str(next(FIRST)),
            "--name", f"of {time.time_ns()}",
        ],
        cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(SETTLE_S)
    return busy_s() - begun


def cell(folder: Path, seeds: int) -> float:
    """Processor-seconds that each cell of further seeds adds to a comparison of one."""
    few, many = comparison(folder, 1), comparison(folder, 1 + seeds)
    return (many - few) / (seeds * CELLS)


def bare(seeds: int) -> float:
    """Processor-seconds a cell of the same computing, in this process, without runs."""

    @contextlib.contextmanager
    def no_run(*_: object, **__: object):
        yield Run()

    tracking.run, inputs.check_store = no_run, lambda *_: None
    torch.set_num_threads(1)  # as the cells have
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        _compute(0)  # what is done once
        begun = time.process_time()
        for seed in range(1, 1 + seeds):
            _compute(seed)
    return (time.process_time() - begun) / (seeds * CELLS)


def _compute(seed: int) -> None:
    settings, config = Single(seed=seed, **TINY), classifier.Config(steps=1)
    shutil.rmtree("outputs/runs/checkpoints", ignore_errors=True)  # a run without a folder has those of all
    dataset = load_dataset(settings, settings.n_real, seed)
    samples = generators.run_generator("vae", vae.Config(steps=1, batch_size=16), settings, "none", dataset=dataset)
    for arm in (samples, *(arms.control_arm(name, dataset, 20, seed) for name in ("none", *CONTROLS))):
        classifiers.run_classifier(arm, config, settings, dataset, "none")


def main(seeds: Count = 10, rounds: Count = 3) -> None:
    """Measure cells and their bare computing in turns; print processor-seconds a cell."""
    os.environ |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="cells-") as name, contextlib.chdir(name):
        comparison(Path(name), 1)  # makes the store and the judge
        turns = take_turns({"a cell": partial(cell, Path(name), seeds), "bare": partial(bare, seeds)}, rounds)
    turns["beside its computing"] = turns["a cell"] - turns["bare"]
    print(turns.apply(spread).to_markdown())


if __name__ == "__main__":
    cli.main(main)
