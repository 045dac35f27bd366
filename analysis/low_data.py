"""Gains by the number of real images: with intervals of two kinds, in real images, and over all sizes as one.

    python -m analysis.low_data                                         # of the newest comparison
    python -m analysis.low_data --comparison mnist-100 mnist-1000       # of several, as one
    python -m analysis.low_data --rows analysis/results/mnist/rows.csv  # of a file of rows, without a store

About 20 s, most of it imports. It prints two tables, and writes them to outputs/tables (with CSV and LaTeX) beside a
picture of the learning curves:

    |   n_real | method |   n |          accuracy, % |         gain, points | … |     real images worth |
    |---------:|:-------|----:|---------------------:|---------------------:|--:|----------------------:|
    |     1000 | none   |   5 | 95.00 [94.53, 95.47] |                    - | … |                     - |
    |     1000 | affine |   5 | 96.80 [96.48, 97.12] | +1.80 [+1.57, +2.03] | … | +1,242 [+941, +1,583] |

    | method |   n |   sizes |   IQM of the gain, points |

A row per (n_real, method); the arms are those found in the runs' `method` tags.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from analysis import accuracy_table, pages, runs, statistics
from analysis.accuracy_table import BASELINE, CONTROLS
from analysis.lazily import Figure, pd, sns
from analysis.pages import Section
from analysis.tables import Table, arm_columns, interval_in, number
from harness import cli

GAIN_HEADINGS = (
    "n_real", "method", "n", "accuracy, %", "gain, points", "gain by bootstrap-t, points", "real images worth",
)  # fmt: skip
SCALE = "affine"
"""The control beside which each generator's gains are drawn."""
LINEAR = 3.0
"""Points up to which an axis is linear throughout."""
IQM_HEADINGS = ("method", "n", "sizes", "IQM of the gain, points")


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its part of the report, where there is an arm beside `none`."""
    arms = runs.whole_arms(cells)
    if arms["method"].eq(BASELINE).all():
        return
    gained, summed = gains(arms), iqms(arms)
    yield Section(
        "Few real images and many",
        tables={
            "low_data_gains": (gains_shown(gained, gain_notes(arms)), gained),
            "low_data_iqm": (iqms_shown(summed, iqm_notes(summed)), summed),
        },
        pictures={"low_data": (plot(gained), "Gain by the number of real images, with 95 % intervals")},
    )


# The numbers


def gains(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per (n_real, method), in the order of the tables, from the cells of whole arms.

    Accuracies are in percent, gains in percentage points, both of the num_seeds pairs: means with t intervals, and the
    gain's bootstrap-t interval. `worth_images` is how many more real images without synthetic ones are as good: on the
    learning curve of `none` over all n_real, -inf or inf beyond it. What a row does not have is NaN.
    """
    curve = learning_curve(cells)

    def row(arm: pd.DataFrame, n_real: int, method: str) -> dict[str, float]:
        accuracy = statistics.mean_interval(arm["augmented_percent"])
        points = [] if method == BASELINE else arm["gain_points"].to_numpy()
        gain = accuracy_table.gain_of(arm) if len(points) else statistics.paired_difference([], [])
        bootstrap = statistics.bootstrap_interval(points)
        worth = worth_of(arm, curve, n_real) if len(points) and len(curve) > 1 else statistics.UNKNOWN
        return {
            **statistics.columns(accuracy, "accuracy", "percent"),
            **statistics.columns(gain, "gain", "points"),
            "bootstrap_low_points": bootstrap.low,
            "bootstrap_high_points": bootstrap.high,
            **statistics.columns(worth, "worth", "images"),
        }

    return accuracy_table.by_arm(cells, row)


def learning_curve(cells: pd.DataFrame) -> pd.DataFrame:
    """The accuracies of `none`, a row per n_real, a column per seed."""
    return cells[cells["method"] == BASELINE].pivot(index="n_real", columns="seed", values="accuracy")


def worth_of(arm: pd.DataFrame, curve: pd.DataFrame, n_real: float) -> statistics.Estimate:
    """How many more real images, by the learning curve, are as good as what an arm's cells at n_real had besides."""
    treated = arm.set_index("seed")["accuracy"].reindex(curve.columns)
    return statistics.equivalent_images(curve.index, curve, n_real, treated)


def iqms(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per method but `none`: the interquartile mean of its gains, in points, over all n_real of the cells.

    Each n_real is a task; taken are the num_seeds seeds that the method has at all of them. The interval resamples
    seeds within each n_real.
    """
    paired = accuracy_table.pairs(cells)
    arms = cells[cells["method"] != BASELINE]
    sizes = arms["n_real"].unique()  # at others there is no more than a point of none's learning curve
    methods = arms["method"].drop_duplicates().sort_values(key=accuracy_table.rank)
    rows = []
    for method in methods:
        own = paired[paired["method"] == method]
        scores = own.pivot(index="seed", columns="n_real", values="gain_points")
        scores = scores.reindex(columns=sizes).dropna()
        estimate = statistics.UNKNOWN
        if len(scores):
            estimate = statistics.iqm([*scores.to_numpy().T])
        rows.append(
            {
                "method": method,
                "num_seeds": len(scores),
                "num_sizes": len(sizes),
                **statistics.columns(estimate, "iqm", "points"),
                **accuracy_table.run_ids(own[own["seed"].isin(scores.index) & own["n_real"].isin(sizes)]),
            }
        )
    return pd.DataFrame(rows)


# The words


def gain_notes(cells: pd.DataFrame) -> list[str]:
    """What stands under the table of gains."""
    sizes = sorted(cells.loc[cells["method"] == BASELINE, "n_real"].unique())
    curve = ", ".join(f"{n_real:,}" for n_real in sizes)
    worth = (
        "Real images worth: how many more real images without synthetic ones are as accurate, on none's learning curve "
        f"over {curve} images; with > or < where that lies beyond what the curve measured. The "
        "interval is paired by seed, as the gain's, and excludes 0 where that does."
        if len(sizes) > 1
        else "What a gain is worth in real images needs none's learning curve, so cells of two n_real or more."
    )
    return [
        f"Data set {cells['dataset'].iloc[0]}, judge {cells['judge'].iloc[0][:12]}. Means over n seeds with 95 % "
        "intervals, t where nothing else is said (from two seeds on; bootstrap-t from four, with gains that differ). "
        "Gain: difference to none, paired by seed.",
        worth,
        *accuracy_table.missing(cells),
    ]


def iqm_notes(table: pd.DataFrame) -> list[str]:
    """What stands under the table of IQMs."""
    lines = [
        "Interquartile mean (Agarwal et al. 2021) of the gains over all n_real and the n seeds that the arm has at "
        "each of them, with a 95 % stratified bootstrap interval where there are enough of them."
    ]
    if table["num_seeds"].nunique() > 1:
        lines.append("The arms have different seeds; those of fewer lack cells.")
    return lines


def gains_shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`gains` as they are printed."""
    most, least = (table["n_real"].max(), table["n_real"].min()) if len(table) else (0, 0)
    texts = [
        [
            *arm_columns(row, ("accuracy", "gain")),
            ends(row["bootstrap_low_points"], row["bootstrap_high_points"]),
            worth_words(row, least - row["n_real"], most - row["n_real"]),
        ]
        for row in table.to_dict("records")
    ]
    return Table(GAIN_HEADINGS, texts, notes=under, group="n_real")


def ends(low: float, high: float) -> str:
    """An interval alone, such as [-0.10, +0.74]."""
    return "-" if math.isnan(low) else f"[{low:+z.2f}, {high:+z.2f}]"


def worth_words(row: dict, least: int, most: int) -> str:
    """A number of images with its interval, such as +1,200 [+300, > 9,000]; beyond `least` and `most` none is known."""
    names = ("worth_images", "worth_low_images", "worth_high_images")
    value, low, high = (bounded(row[name], least, most) for name in names)
    return value if low == "-" else f"{value} [{low}, {high}]"


def bounded(images: float, least: int, most: int) -> str:
    if math.isinf(images):
        return f"> {most:,}" if images > 0 else f"< {least:,}"
    return number(images, "+z,.0f")


def iqms_shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`iqms` as they are printed."""
    texts = [
        [
            row["method"],
            str(row["num_seeds"]),
            str(row["num_sizes"]),
            interval_in(row, "iqm", "points", "+z.2f"),
        ]
        for row in table.to_dict("records")
    ]
    return Table(IQM_HEADINGS, texts, notes=under)


# The picture


def plot(gained: pd.DataFrame, label: str = "gain in accuracy [points]") -> Figure:
    """Gains by the number of real images: a panel for each generator, with `affine` for scale; then the controls.

    From `gains`; bands are its t intervals. With one number of real images the arms stand side by side, under bars.
    Where a gain is above LINEAR, gains are linear up to a point and logarithmic beyond.
    """
    arms = gained[gained["method"] != BASELINE]
    names = arms["method"].drop_duplicates().sort_values(key=accuracy_table.rank).tolist()
    generators = [name for name in names if name not in CONTROLS]
    families = dict.fromkeys(runs.generator_of(name) for name in generators)
    shown = [[SCALE, *(name for name in generators if runs.generator_of(name) == each)] for each in families]
    shown += [list(CONTROLS)]
    shown = [[name for name in panel if name in names] for panel in shown]
    shown = [panel for panel in shown if set(panel) - {SCALE}] or [names]
    figure = Figure(figsize=(2.6 * len(shown) + 0.6, 3.2), layout="constrained")
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    sizes = sorted(arms["n_real"].unique())
    for panel, methods in zip(panels, shown, strict=True):
        panel.axhline(0, color="black", linewidth=0.8)
        others = iter(sns.color_palette("colorblind"))
        for place, method in enumerate(methods):
            own = arms[arms["method"] == method].sort_values("n_real")
            color = "grey" if method == SCALE else next(others)
            across = own["n_real"] if len(sizes) > 1 else [place]
            panel.plot(across, own["gain_points"], "o-", markersize=4, color=color, label=method)
            ends_of = own["gain_low_points"], own["gain_high_points"]
            if len(sizes) > 1:
                panel.fill_between(across, *ends_of, color=color, alpha=0.2, linewidth=0)
            else:
                panel.vlines(across, *ends_of, color=color)
        panel.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
        if gained["gain_points"].abs().max() > LINEAR:
            panel.set_yscale("symlog", linthresh=1)
        if len(sizes) > 1:
            panel.set_xscale("log")
            panel.set_xticks(sizes, [f"{n_real:,}" for n_real in sizes], rotation=45)
        else:
            panel.set_xticks([])
            panel.set_xlim(-1, max(map(len, shown)))
        panel.minorticks_off()
        panel.yaxis.set_major_formatter(lambda points, _: f"{points:+g}" if points else "0")
        sns.despine(ax=panel)
    panels[0].set_ylabel(label)
    figure.supxlabel("real images" if len(sizes) > 1 else f"{sizes[0]:,} real images", fontsize="medium")
    return figure


main = pages.script(sections, runs.NO_ARM, __doc__)

if __name__ == "__main__":
    cli.main(main)
