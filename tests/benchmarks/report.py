"""How long the report of a comparison with 10,000 cells takes.

    python tests/benchmarks/report.py --repeats 3

Makes a sqlite store of cells like the measured ones, with 250 seeds in place of few: all their figures, and who was
right on each of 10,000 test images. Then it calls analysis.report. About a minute a turn on two CPU cores, which should
have nothing else to do.
"""

import itertools
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import paths  # noqa: F401
from numpy.typing import NDArray
from processes import ROOT
from reading import Logged, fill, run_id
from start import took
from turns import spread, take_turns

from analysis import runs
from harness import cli
from harness.bounds import Count

MEASURED = ROOT / "analysis/results/mnist/rows.csv"


def main(cells: Count = 10_000, repeats: Count = 3) -> None:
    """Make the store, build the report in turns, print the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        fill(uri, itertools.islice(logged(Path(folder)), cells + 1))
        command = ("-m", "analysis.report", "--tracking-uri", uri, "--out", f"{folder}/report")
        turns = take_turns({"report": partial(took, ROOT, *command)}, repeats)
        size = Path(folder, "report", "report.html").stat().st_size
        print(f"report of {cells:,} cells: {spread(turns['report'])} s, {size / 1e6:.1f} MB of HTML")


def logged(folder: Path) -> Iterator[Logged]:
    """A comparison, then its cells without end, their artifacts in a folder: the measured arms at each n_real, seed by
    seed."""
    yield Logged({}, {}, {"kind": "comparison"}, (folder / "artifacts" / "parent").as_uri())
    rows = runs.whole_arms(runs.read_rows(MEASURED))
    right = runs.right_counts(rows)
    measured = rows.sort_values("seed").drop_duplicates(["n_real", "method"])
    draw = np.random.default_rng(0)
    for seed in itertools.count():
        for cell in measured.to_dict("records"):
            artifacts = folder / "artifacts" / cell["run_id"] / str(seed)
            yield cell_of(cell, right[cell["run_id"]], seed, draw, artifacts)


def cell_of(cell: dict, right: NDArray[np.uint8], seed: int, draw: np.random.Generator, artifacts: Path) -> Logged:
    """A measured cell as the run of another seed, its answers and its figures a little changed."""
    right = right ^ (draw.random(len(right)) < 0.01)
    artifacts.mkdir(parents=True)
    np.savez_compressed(artifacts / runs.RIGHT, right=right)
    known = {name: value for name, value in cell.items() if isinstance(value, float) and not np.isnan(value)}
    metrics = {metric: known[name] for name, metric in runs.METRICS.items() if name in known}
    metrics |= {
        start.removeprefix("metrics.") + name.removeprefix(column): value
        for start, column in runs.GROUPS.items()
        for name, value in known.items()
        if name.startswith(column)
    }
    metrics = {name: value * draw.normal(1, 0.02) for name, value in metrics.items()}
    tags = {tag: str(cell[tag]) for tag in (*runs.TAGS, "data_digest", "host")}
    tags |= {"seed": str(seed), "kind": "classifier", "mlflow.parentRunId": run_id(0)}
    if isinstance(cell["samples_run"], str):
        tags["samples_run"] = f"{cell['samples_run'][:24]}{seed:08x}"
    params = {"num_synthetic": str(cell["num_synthetic"]), "device_name": str(cell["device"])}
    return Logged(metrics | {"test/accuracy": right.mean()}, params, tags, artifacts.as_uri())


if __name__ == "__main__":
    cli.main(main)
