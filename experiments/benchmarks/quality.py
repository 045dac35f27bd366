"""What a generator's quality costs beside that of another revision: device-seconds and CAS, seed by seed.

    python experiments/benchmarks/quality.py ddpm --against 8829daa --seeds 3 --flags="--steps 5000"

Each side trains by its own experiments/METHOD.py, one after the other for each seed; `--flags` are this side's. CAS of
both is that of the revision's classifier, since a better classifier is no better generator, on the validation images.
What a side has made stays in `--out` and is not made again: another revision is measured once a machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import tyro
from turns import ROOT, table, worktree

from analysis import statistics
from harness import cli, methods, tracking
from harness.bounds import Count, Natural
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HERE = "this"
COSTS = ("training", "sampling")
CAS = """
import json, sys
import numpy as np, torch
try:
    from harness.data.datasets import load
    from harness.data.images import Images
    from harness.evaluation.classifier import Config
    from harness.evaluation.quality import classification_accuracy_score
    from harness.training import launch
except ImportError:  # of 8829daa
    from harness import launch
    from harness.classifier import Config
    from harness.data import Images, load
    from harness.evaluation import classification_accuracy_score
samples, name, n_real, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with np.load(samples) as held:
    images = Images(torch.from_numpy(held["images"]), torch.from_numpy(held["labels"]))
found = load(name, n_real=n_real, seed=seed, with_test=False)
scores = classification_accuracy_score(images, found, Config(), seed, launch.accelerator())
print(json.dumps(scores["validation/cas"]))
"""
"""In the revision's own files: what its classifier, trained on samples alone, sees in the validation images."""


@dataclass(frozen=True)
class Plan:
    """What is trained, and how often."""

    method: tyro.conf.Positional[str]
    """the generator: ddpm, vae, gan or drifting"""
    against: str
    """a revision of this repository, such as 8829daa"""
    dataset: str = "mnist"
    """digits (embedded), mnist, fashion-mnist or kmnist; its validation images are the measure"""
    n_real: Count = 55_000
    """real images, which leave some for validation"""
    seeds: Count = 3
    """seeds"""
    first_seed: Natural = 0
    """the first of them"""
    num_synthetic: Count = 20_000
    """images in a sample set"""
    flags: str = ""
    """further flags of this side's training, as one word: --flags="--steps 5000" """
    out: Path = Path("outputs/quality")
    """folder in which both sides train, and which keeps what they have made"""


def main(plan: Plan) -> None:
    """Train both sides where they have not been, print a table."""
    if plan.method not in methods.names():
        raise InputError(f"unknown method {plan.method!r}; there are {', '.join(methods.names())}")
    rows = []
    with worktree(plan.against) as other:
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds):
            for side, source, flags in ((plan.against, other, ""), (HERE, ROOT, plan.flags)):
                made = generated(plan, source, seed, shlex.split(flags))
                cas = judged(plan, other, seed, made["samples"])
                rows.append({"side": side, "seed": seed, "CAS, %": 100 * cas, **made["seconds"]})
                told = ", ".join(f"{name[:-3]} {value:.4g} s" for name, value in made["seconds"].items())
                print(f"{side}, seed {seed}: CAS {cas:.2%}, {told}", file=sys.stderr, flush=True)
    print(shown(pd.DataFrame(rows), plan.against))


def generated(plan: Plan, source: Path, seed: int, flags: list[str]) -> dict[str, Any]:
    """Where a side's sample set is, and the device-seconds that its training and sampling took."""
    command = [
        "--dataset", plan.dataset, "--n-real", str(plan.n_real), "--seed", str(seed),
        "--num-synthetic", str(plan.num_synthetic), "--no-test", "--resume", "auto", *flags,
    ]  # fmt: skip
    revision = subprocess.run(
        ["git", "-C", str(source), "describe", "--always", "--dirty"], check=True, capture_output=True, text=True
    ).stdout
    name = hashlib.sha256(repr((revision, plan.method, command)).encode()).hexdigest()[:16]
    place = plan.out.absolute() / f"{plan.method}-{name}"
    store = f"sqlite:///{place}/outputs/mlflow.db"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "samples.npz").exists():
        done = subprocess.run(
            [sys.executable, str(source / f"experiments/{plan.method}.py"), *command],
            cwd=place, env=_environment(source), stdout=sys.stderr,
        )  # fmt: skip
        if done.returncode:
            raise InputError(f"the training in {place} has ended with {done.returncode}; what it said stands above")
        run = _finished(store)
        with tracking.fetched(run["run_id"], "samples.npz", store) as path:
            (place / "samples.npz").write_bytes(path.read_bytes())
    seconds = {f"{what}, s": _finished(store)[f"metrics.cost/{what}_device_seconds"] for what in COSTS}
    return {"samples": place / "samples.npz", "seconds": seconds}


def _finished(store: str) -> dict[str, Any]:
    runs = tracking.read_runs("tags.kind = 'generator' AND attributes.status = 'FINISHED'", tracking_uri=store)
    return {str(name): value for name, value in runs.iloc[0].items()}


def _environment(source: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return kept | {"PYTHONPATH": str(source)}


def judged(plan: Plan, source: Path, seed: int, samples: Path) -> float:
    """The validation CAS of a sample set, 0 … 1, by the classifier of `source`."""
    kept = samples.with_suffix(".json")
    if not kept.exists():
        done = subprocess.run(
            [sys.executable, "-c", CAS, str(samples), plan.dataset, str(plan.n_real), str(seed)],
            cwd=samples.parent, env=_environment(source), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode:
            raise InputError(f"{samples} has no CAS: --n-real must leave validation images; what was said stands above")
        kept.write_text(done.stdout.splitlines()[-1])
    return float(json.loads(kept.read_text()))


def shown(made: pd.DataFrame, against: str) -> str:
    """Means with 95 % t intervals, and this side's seconds as a share of the other's."""
    figures = ["CAS, %", *(f"{what}, s" for what in COSTS)]
    rows = [
        {"": side, "n": len(own)} | {name: interval(own[name].to_numpy()) for name in figures}
        for side, own in made.groupby("side", sort=False)
    ]
    pairs = made.pivot(index="seed", columns="side")
    difference = (pairs[figures[0], HERE] - pairs[figures[0], against]).to_numpy()
    shares = {name: interval((pairs[name, HERE] / pairs[name, against]).to_numpy()) for name in figures[1:]}
    return table([*rows, {"": f"{HERE} beside {against}", "n": len(pairs), figures[0]: interval(difference), **shares}])


def interval(values: NDArray[np.float64]) -> str:
    found = statistics.mean_interval(values)
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"


if __name__ == "__main__":
    cli.main(main)
