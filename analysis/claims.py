"""What two student reports on MNIST claim, one claim after the other: what was measured, and whether it holds.

    python -m analysis.claims --comparison grid --weak weak.csv --gradients train_generator_gradient_norm.csv \
        --distances train_wasserstein.csv

What compares the three generators does so at the largest number of real images that all of them have. A claim holds
where the whole 95 % interval is on its side, does not where the whole interval is on the other or leaves no room for a
tenth of a point, and cannot be told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis import curves, pages, quality_over_cost, quality_vs_gain, runs, statistics
from analysis.accuracy_table import BASELINE, CONTROLS, pairs
from analysis.lazily import np, pd
from analysis.pages import Section
from analysis.runs import Source
from analysis.tables import Table
from harness import cli
from harness.errors import InputError

Verdict = Literal["holds", "does not", "cannot tell"]
MARGIN = 0.1
"""Percentage points below which a gain is none."""
SATISFYING = 0.95
"""Conditional accuracy from which a generator does what it is told, nearly always."""
FULL = 50_000
"""Real images from which a data set counts as MNIST's 60,000."""
THREE = ("ddpm", "gan", "vae")
VANISHED = 0.01
"""Of its median over a training, below which a gradient's norm has vanished."""
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
    """the CSV file of `analysis.curves train/generator_gradient_norm`, of vanilla GANs, then of WGANs, then of
    saturating GANs"""
    distances: Path | None = None
    """that of `analysis.curves train/wasserstein`, of the WGANs"""
    looks: Path | None = None
    """that of `analysis.quality_over_cost`, of all three generators"""

    def read(self) -> dict[str, pd.DataFrame]:
        """The cells, histories and looks that `findings` takes, by their names."""
        ways = {"weak": runs.read_rows, "gradients": curves.read, "distances": curves.read}
        ways["looks"] = quality_over_cost.read
        return {name: read(path) for name, read in ways.items() if (path := getattr(self, name))}


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
    pages.show([section(source.cells(), besides)], out, "no claim", json)


def section(cells: pd.DataFrame, besides: ExtraInputs) -> Section:
    """The claims' part of the report."""
    others = besides.read()
    found = findings(cells, **others)
    gradients = others.get("gradients")
    drawn = {} if gradients is None else {"gradients": (curves.plot(gradients, "gradient norm"), GRADIENTS)}
    return Section("The claims, one by one", tables={"claims": (shown(found), pd.DataFrame(found))}, pictures=drawn)


def findings(
    cells: pd.DataFrame,
    weak: pd.DataFrame | None = None,
    gradients: pd.DataFrame | None = None,
    distances: pd.DataFrame | None = None,
    looks: pd.DataFrame | None = None,
) -> list[Finding]:
    """Every claim; one that the cells cannot decide has n = 0 and says what is missing.

    cells: of `analysis.runs`; of several settings the first, as they are, counts. weak: those of a comparison
    whose baseline is a weak one; gradients, distances, looks: as `ExtraInputs` reads them.
    """
    whole = runs.whole_arms(runs.by_setting(cells)[0][1])
    full = whole[whole["n_real"] >= FULL]
    three = _largest_with_three(whole)
    return [
        *_augmentation_helps(full, "a strong baseline"),
        *_augmentation_helps(None if weak is None else runs.whole_arms(weak), "a weak baseline of about 97 %"),
        *_order(three),
        *_gain_follows_quality(whole),
        _compared("VAE samples are blurrier", three, "quality_sharpness", "vae", ("ddpm", "gan"), lower=True),
        _compared("DDPM costs most", three.assign(cost=_cost(three)), "cost", "ddpm", ("gan", "vae"), lower=False),
        _costs_most_at_equal_quality(looks),
        _grows(gradients),
        _keeps_pace(gradients, distances),
        _vanishes_for_a_time(gradients),
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


def _largest_with_three(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the largest n_real with all three generators, as such or all trained on moved images, by method."""
    for _, own in sorted(cells.groupby("n_real"), reverse=True):
        for kind in ("", "-moved"):
            names = {f"{method}{kind}": method for method in THREE}
            found = own[own["method"].isin(names)]
            if found["method"].nunique() == len(THREE):
                return found.assign(method=found["method"].map(names))
    return cells[:0]


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


def _order(three: pd.DataFrame) -> Iterator[Finding]:
    claim = "DDPM gains more than GAN, and GAN more than VAE"
    for better, worse in (("ddpm", "gan"), ("gan", "vae")):
        sides = _sides(three, "accuracy", better, worse)
        if sides is None:
            yield _missing(claim, "no number of real images with all three")
            continue
        gap = statistics.paired_difference(100 * sides[better], 100 * sides[worse])
        measured = f"{better} less {worse}{_at(sides)}, points"
        yield Finding(claim, measured, len(sides), *gap[:3], verdict(gap.low, gap.high), _behind(sides, three))


def _at(sides: pd.DataFrame) -> str:
    return f" with {sides.index[0][0]:,} images"


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
        return _missing(claim, f"no seeds with {figure} of {arm}, {' and '.join(others)}")
    rivals = sides[list(others)].min(axis=1) if lower else sides[list(others)].max(axis=1)
    logs = np.log(sides[arm] / rivals) * (-1 if lower else 1)
    estimate = statistics.mean_interval(logs)
    ratio = [math.exp(-end if lower else end) for end in estimate]
    name = {"equal_s": "seconds of training"}.get(figure, figure.removeprefix("quality_"))
    rival = f"the {'lowest' if lower else 'highest'} of the others"
    measured = f"{name} of {arm} beside {rival}{_at(sides)}, as a ratio"
    low, high = sorted(ratio[1:])
    apart = verdict(estimate.low, estimate.high)
    return Finding(claim, measured, len(sides), ratio[0], low, high, apart, _behind(sides, cells))


def _costs_most_at_equal_quality(looks: pd.DataFrame | None) -> Finding:
    claim = "DDPM costs most, for samples of equal CAS"
    if looks is None:
        return _missing(claim, "no looks at the three generators' trainings were given")
    three = _largest_with_three(quality_over_cost.times(looks))
    return _compared(claim, three, "equal_s", "ddpm", ("gan", "vae"), lower=False)


def _part(gradients: pd.DataFrame | None, place: int) -> pd.DataFrame | None:
    """The histories of the comparison at a place of a file."""
    parts = [] if gradients is None else [own for _, own in gradients.groupby("comparison", sort=False)]
    return parts[place] if place < len(parts) else None


def _grows(gradients: pd.DataFrame | None) -> Finding:
    claim, own = "the vanilla GAN's gradient vanishes", _part(gradients, 0)
    if own is None:
        return _missing(claim, "no histories of its generator's gradient were given")
    measured = "norm of the generator's gradient in the last tenth of a training beside the first, as a ratio"
    logs = _last_by_first(own)
    middle, low, high = (math.exp(end) for end in statistics.mean_interval(logs))
    return Finding(claim, measured, len(logs), middle, low, high, verdict(1 - high, 1 - low), _ids(own["run_id"]))


def _keeps_pace(gradients: pd.DataFrame | None, distances: pd.DataFrame | None) -> Finding:
    """A gradient that falls with the distance that it is to lower has not vanished."""
    claim, own = "WGAN's gradient does not vanish", _part(gradients, 1)
    if own is None or distances is None:
        return _missing(claim, "no histories of its generator's gradient and of its critic's distance were given")
    apart = distances[distances["run_id"].isin(own["run_id"])]
    if set(apart["run_id"]) != set(own["run_id"]):
        raise InputError("--distances lacks a WGAN of --gradients: give both of the same comparison")
    logs = _last_by_first(own) - _last_by_first(apart)
    middle, low, high = (math.exp(end) for end in statistics.mean_interval(logs))
    measured = "norm of the gradient by the critic's distance, last tenth of a training beside the first, as a ratio"
    return Finding(claim, measured, len(logs), middle, low, high, verdict(low - 1, high - 1), _ids(own["run_id"]))


def _last_by_first(histories: pd.DataFrame) -> pd.Series:
    """Logarithm of each training's mean over its last tenth by that over its first; NaN where one is not above 0."""
    first = histories[histories["share"] <= 0.1].groupby("run_id")["value"].mean()
    last = histories[histories["share"] > 0.9].groupby("run_id")["value"].mean()
    return pd.Series(np.log((last / first).where((first > 0) & (last > 0))))


def _vanishes_for_a_time(gradients: pd.DataFrame | None) -> Finding:
    """The minimax game's own loss, which has no gradient where the critic is sure (Goodfellow 2014, section 3)."""
    claim, own = "the saturating GAN's gradient vanishes for a time", _part(gradients, 2)
    if own is None:
        return _missing(claim, "no histories of its generator's gradient were given")
    values = own.groupby("run_id")["value"]
    vanished = values.min() < VANISHED * values.median()
    found = statistics.share(int(vanished.sum()), len(vanished))
    measured = (
        f"share of trainings in which the norm is below {VANISHED:.0%} of its median for 2 % of the steps or more"
    )
    return Finding(claim, measured, len(vanished), *found, verdict(found.low, found.high), _ids(own["run_id"]))


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
