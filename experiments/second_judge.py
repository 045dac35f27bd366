"""Does the order of the generators depend on whose features tell it, and are their samples told from real images?

    python experiments/second_judge.py --comparison RUN --dataset mnist

RUN is a comparison's run id, with its --dataset. A judge of another shape and seed looks again: a residual network
where the store's is not, and two convolutions where it is. It prints Spearman's correlation of the two judges' figures
over the generators' sample sets, a row per figure. A classifier of a set's samples and unseen real images then tells
which is which: a row per arm and n_real, the share that it gets right of others, beside what it gets where both are
real. All figures are written as CSV. About 4 min for MNIST on one core, and 40 s for each sample set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import cli, outputs, tracking
from harness.bounds import Natural
from harness.errors import InputError
from harness.evaluation import judging, quality
from harness.runs import arms
from harness.settings import Single, load_dataset
from harness.training import launch

WIDTH = 16
"""Channels of the second judge where the first has two convolutions."""
FIGURES = ("fid", "kid", "precision", "recall", "density", "coverage")
GAP = {"told_apart": "told apart, %", "floor_told_apart": "floor, %"}


@dataclass(frozen=True)
class Settings(Single):
    """Whose samples."""

    comparison: str | None = None
    """run id of the comparison"""
    judge_seed: Natural = 1
    """seed of the second judge's weights and of its order of images"""
    out: Path = Path("outputs/tables/second_judge.csv")
    """file for the figures"""


def main(settings: Settings = Settings()) -> None:
    """Have another judge measure a comparison's sample sets, and compare the orders."""
    if not settings.comparison:
        raise InputError("give --comparison, the run id that experiments/compare.py prints")
    outputs.check_file(settings.out, ".csv")
    import pandas as pd

    of_comparison = f"tags.mlflow.parentRunId = '{settings.comparison}' and tags.kind = 'generator'"
    found = tracking.read_runs(of_comparison, tracking_uri=settings.tracking_uri)
    found = found[found["status"] == "FINISHED"] if len(found) else found
    if found.empty:
        raise InputError(f"run {settings.comparison} is no comparison with a finished generator in this store")
    table = pd.DataFrame(rows(settings, found.to_dict("records")))
    twice = table[table["figure"].isin(FIGURES)]
    table.to_csv(settings.out, index=False, float_format="%.6g", lineterminator="\n")
    correlations = [
        {"figure": name, "sample sets": len(of), "Spearman": of["first"].corr(of["second"], method="spearman")}
        for name, of in twice.groupby("figure", sort=False)
    ]
    print(pd.DataFrame(correlations).to_markdown(index=False, floatfmt=".2f"))
    told = table[table["figure"].isin(GAP)].pivot_table("second", ["n_real", "arm"], "figure", sort=False) * 100
    print(told.reset_index().rename(columns=GAP).to_markdown(index=False, floatfmt=".1f"))


def rows(settings: Settings, generators: list[dict]) -> Iterator[dict[str, object]]:
    """A row per sample set and figure: the store's where it has one, and the second judge's."""
    accelerator, floors = launch.accelerator(settings.process_timeout), {}
    dataset = load_dataset(settings, None, settings.seed)
    first = judging.judge_config(dataset, settings.judge_steps, settings.judge_width)
    config = judging.judge_config(dataset, settings.judge_steps, 0 if first.width else WIDTH)
    judge = judging.train_judge(dataset, config, settings.judge_seed)
    for run in generators:
        samples = arms.generator_arm(run["run_id"], settings.tracking_uri).samples
        assert samples is not None
        seed = int(run["tags.seed"])
        reference, floor = quality.reference_and_floor(dataset, seed)
        samples = quality.as_many(samples, reference, seed)
        seen = quality.compare_to_reference(*(quality.see(judge, of) for of in (samples, reference)))
        how = (reference, dataset.image_shape, seed, accelerator)
        floors[seed] = floors[seed] if seed in floors else quality.told_apart(floor, *how)
        gap = {"told_apart": quality.told_apart(samples, *how), "floor_told_apart": floors[seed]}
        cell = {
            "arm": run["params.arm"],
            "n_real": run["tags.n_real"],
            "seed": run["tags.seed"],
            "run_id": run["run_id"],
        }
        for name in FIGURES:
            known = run[f"metrics.test/quality/{name}"]
            yield cell | {"figure": name, "first": known, "second": seen[name]}
        for name in GAP:
            yield cell | {"figure": name, "second": gap[name]}


if __name__ == "__main__":
    cli.main(main)
