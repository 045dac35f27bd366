"""What two student reports on MNIST claim, one claim after the other: what was measured, and whether it holds.

    python -m analysis.claims --comparison grid --weak weak.csv --gradients train_generator_gradient_norm.csv

A claim holds where the whole 95 % interval is on its side, does not where the whole interval is on the
other or leaves no room for a tenth of a point, and cannot be told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis import curves, pages, quality_vs_gain, runs, statistics
from analysis.accuracy_table import BASELINE, CONTROLS, pairs
from analysis.lazily import np, pd
from analysis.pages import Section
from analysis.runs import Source
from analysis.tables import Table
from harness import cli

Verdict = Literal["holds", "does not", "cannot tell"]
MARGIN = 0.1
"""Percentage points below which a gain is none."""
SATISFYING = 0.95
"""Conditional accuracy from which a generator does what it is told, nearly always."""
FULL = 50_000
"""Real images from which a data set counts as MNIST's 60,000."""
GRADIENTS = "Norm of the generator's gradient along the training, mean and standard deviation over the seeds"
HEADINGS = ("claim", "measured", "n", "value", "verdict")


@dataclass(frozen=True)
class Finding:
    """One claim as it was measured, in the units of the claim."""

    claim: str
    measured: str
    n: int
    value: float
    low: float
    high: float
    verdict: Verdict
    run_ids: str = ""
    """the runs it rests on, a space between two"""


@dataclass(frozen=True)
class ExtraInputs:
    """What some claims need beside the grid."""

    weak: Path | None = None
    """a CSV file of cells, as --rows, with a weak baseline: the classifier trained for a few steps only"""
    gradients: Path | None = None
    """the CSV file of `analysis.curves train/generator_gradient_norm`, of vanilla GANs, then of WGANs"""

    def read(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """The cells and the histories that `findings` takes."""
        weak = runs.read_rows(self.weak) if self.weak else None
        return weak, curves.read(self.gradients) if self.gradients else None


def main(
    source: Source = Source(),
    besides: ExtraInputs = ExtraInputs(),
    out: Path = Path("outputs/tables"),
    json: cli.AsJson = False,
) -> None:
    """Print the claims with their verdicts, and write them as Markdown, CSV and LaTeX.

    Args:
        source: where the grid's cells are read
        besides: what some claims need beside them
        out: folder for the files
    """
    cells, (weak, gradients) = source.cells(), besides.read()
    pages.show([section(findings(cells, weak, gradients), gradients)], out, "no claim", json)


def section(found: Sequence[Finding], gradients: pd.DataFrame | None = None) -> Section:
    """The claims' part of the report."""
    drawn = {} if gradients is None else {"gradients": (curves.plot(gradients, "gradient norm"), GRADIENTS)}
    return Section("The claims, one by one", tables={"claims": (shown(found), pd.DataFrame(found))}, pictures=drawn)


def findings(
    cells: pd.DataFrame, weak: pd.DataFrame | None = None, gradients: pd.DataFrame | None = None
) -> list[Finding]:
    """Every claim; one that the cells cannot decide has n = 0 and says what is missing.

    cells: of `analysis.runs`; of several settings the first, as they are, counts. weak: those of a comparison
    whose baseline is a weak one; gradients: the norm of the generator's gradient, of vanilla GANs and then of WGANs, as
    `analysis.curves.read` gives it.
    """
    whole = runs.whole_arms(runs.by_setting(cells)[0][1])
    full = whole[whole["n_real"] >= FULL]
    return [
        *_augmentation_helps(full, "a strong baseline"),
        *_augmentation_helps(None if weak is None else runs.whole_arms(weak), "a weak baseline of about 97 %"),
        *_order(full),
        *_gain_follows_quality(whole),
        _compared("VAE samples are blurrier", full, "quality_sharpness", "vae", ("ddpm", "gan"), lower=True),
        _compared("DDPM costs most", full.assign(cost=_cost(full)), "cost", "ddpm", ("gan", "vae"), lower=False),
        *_vanishing(gradients),
        _satisfying(full),
    ]


def verdict(low: float, high: float, margin: float = 0.0) -> Verdict:
    """Whether something is above 0, by its interval; a value that can only be below `margin` counts as not."""
    if math.isnan(low):
        return "cannot tell"
    if low > 0:
        return "holds"
    return "does not" if high < margin or high <= 0 else "cannot tell"


def _generators(cells: pd.DataFrame) -> list[str]:
    names = sorted(set(cells["method"]) - {BASELINE, *CONTROLS})
    return [name for name in names if not name.endswith(runs.SELECTED)]


def _missing(claim: str, what: str) -> Finding:
    return Finding(claim, f"not measured: {what}", 0, math.nan, math.nan, math.nan, "cannot tell")


def _augmentation_helps(cells: pd.DataFrame | None, baseline: str) -> Iterator[Finding]:
    claim = f"augmentation helps with all 60,000 images and {baseline}"
    paired = pairs(cells) if cells is not None else None
    if paired is None or not _generators(paired):
        yield _missing(claim, "no cells with so many real images and such a baseline")
        return
    percent = paired.loc[paired["method"] == BASELINE, "baseline_percent"].mean()
    for arm in _generators(paired):
        own = paired[paired["method"] == arm]
        gain = statistics.paired_difference(own["augmented_percent"], own["baseline_percent"])
        measured = f"gain of {arm} over {percent:.2f} %, points"
        helps = verdict(gain.low, gain.high, MARGIN)
        yield Finding(claim, measured, len(own), *gain[:3], helps, _ids(own["run_id"], own["baseline_run_id"]))


def _order(full: pd.DataFrame) -> Iterator[Finding]:
    claim = "DDPM gains more than GAN, and GAN more than VAE"
    for better, worse in (("ddpm", "gan"), ("gan", "vae")):
        sides = _sides(full, "accuracy", better, worse)
        if sides is None:
            yield _missing(claim, f"no seeds with both {better} and {worse} at 60,000 images")
            continue
        gap = statistics.paired_difference(100 * sides[better], 100 * sides[worse])
        measured = f"{better} less {worse}, points"
        yield Finding(claim, measured, len(sides), *gap[:3], verdict(gap.low, gap.high), _behind(sides, full))


def _sides(cells: pd.DataFrame, figure: str, *arms: str) -> pd.DataFrame | None:
    """A figure by seed, a column per arm, of the seeds that have all; None where there are none."""
    if figure not in cells:
        return None
    wide = cells[cells["method"].isin(arms)].pivot_table(index=["n_real", "seed"], columns="method", values=figure)
    wide = wide.reindex(columns=list(arms)).dropna()
    return wide if len(wide) else None


def _behind(sides: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The runs that `_sides` is of."""
    own = cells[cells["method"].isin(sides.columns)].set_index(["n_real", "seed"])
    return _ids(own.loc[own.index.isin(sides.index), "run_id"])


def _ids(*runs: pd.Series) -> str:
    return " ".join(pd.concat(runs).unique())


def _gain_follows_quality(cells: pd.DataFrame) -> Iterator[Finding]:
    """Ranks within each n_real, pooled: what more images do to both is no evidence."""
    claim = "gain follows the samples' quality"
    paired = pairs(cells)
    own = paired[paired["method"].isin(_generators(paired))]
    for figure, sign, words in (
        ("conditional_accuracy", 1, "conditional accuracy"), ("cas", 1, "CAS"), ("quality_fid", -1, "FID, negated"),
    ):  # fmt: skip
        figure = quality_vs_gain.measured_as(figure, own)
        known = own.dropna(subset=[figure]) if figure in own else own[:0]
        if known["method"].nunique() < 2:
            yield _missing(claim, f"fewer than two generators with {words}")
            continue
        gains = known["gain_points"].round(4)  # those that differ by the rounding of float32 alone are equal
        ranked = [(sign * known[figure]).groupby(known["n_real"]).rank(pct=True),
                  gains.groupby(known["n_real"]).rank(pct=True)]  # fmt: skip
        found = statistics.rank_correlation(*ranked)
        measured, follows = f"rank correlation of gain and {words}", verdict(found.low, found.high)
        yield Finding(claim, measured, len(known), *found, follows, _ids(known["run_id"], known["baseline_run_id"]))


def _compared(claim: str, cells: pd.DataFrame, figure: str, arm: str, others: Sequence[str], *, lower: bool) -> Finding:
    """Whether one generator lies below, or above, all others: the logarithm of the ratio to the nearest, by seed."""
    sides = _sides(cells, figure, arm, *others)
    if sides is None:
        return _missing(claim, f"no seeds with {figure} of {arm}, {' and '.join(others)} at 60,000 images")
    rivals = sides[list(others)].min(axis=1) if lower else sides[list(others)].max(axis=1)
    logs = np.log(sides[arm] / rivals) * (-1 if lower else 1)
    estimate = statistics.mean_interval(logs)
    ratio = [math.exp(-end if lower else end) for end in estimate]
    name = figure.removeprefix("quality_")
    measured = f"{name} of {arm} beside the {'lowest' if lower else 'highest'} of the others, as a ratio"
    low, high = sorted(ratio[1:])
    apart = verdict(estimate.low, estimate.high)
    return Finding(claim, measured, len(sides), ratio[0], low, high, apart, _behind(sides, cells))


def _vanishing(gradients: pd.DataFrame | None) -> Iterator[Finding]:
    """What WGAN is to cure: the last tenth of each training beside its first."""
    claims = ("the vanilla GAN's gradient vanishes", "WGAN's gradient does not vanish")
    parts = [] if gradients is None else [own for _, own in gradients.groupby("comparison", sort=False)]
    for place, claim in enumerate(claims):
        if len(parts) <= place:
            yield _missing(claim, "no histories of its generator's gradient were given")
            continue
        own = parts[place]
        first = own[own["share"] <= 0.1].groupby("run_id")["value"].mean()
        last = own[own["share"] > 0.9].groupby("run_id")["value"].mean()
        estimate = statistics.mean_interval(np.log(last / first))
        measured = "norm of the generator's gradient in the last tenth of a training beside the first, as a ratio"
        sides = (estimate.low, estimate.high) if place else (-estimate.high, -estimate.low)
        middle, low, high = (math.exp(end) for end in estimate)
        yield Finding(claim, measured, len(first), middle, low, high, verdict(*sides), _ids(own["run_id"]))


def _cost(cells: pd.DataFrame) -> pd.Series:
    return cells["generator_training_s"] + cells["generator_sampling_s"]


def _satisfying(full: pd.DataFrame) -> Finding:
    claim = f"a satisfying generator (conditional accuracy from {SATISFYING:.0%}) on a CPU within 25 epochs: GAN"
    own = full[full["method"] == "gan"]
    if own.empty:
        return _missing(claim, "no GAN at 60,000 images")
    found = statistics.mean_interval(own["conditional_accuracy"])
    minutes = own["generator_training_s"].mean() / 60
    measured = f"conditional accuracy after {minutes:.0f} minutes of one core, at the default's number of steps"
    above = verdict(found.low - SATISFYING, found.high - SATISFYING)
    return Finding(claim, measured, len(own), *found, above, _ids(own["run_id"]))


def shown(found: Sequence[Finding]) -> Table:
    """The claims as they are printed."""
    rows = [[each.claim, each.measured, str(each.n), _value(each), each.verdict] for each in found]
    note = (
        f"A claim holds where the whole 95 % interval is on its side; it does not where it is on the other, or where "
        f"no gain of {MARGIN} points is left in it. Means over n seeds, t intervals, paired by seed."
    )
    return Table(HEADINGS, rows, left=("claim", "measured", "verdict"), notes=[note])


def _value(found: Finding) -> str:
    if math.isnan(found.value):
        return "-"
    ends = "" if math.isnan(found.low) else f" [{found.low:.3g}, {found.high:.3g}]"
    return f"{found.value:.3g}{ends}"


if __name__ == "__main__":
    cli.main(main)
