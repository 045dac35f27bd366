"""How much synthetic data: the gain over the number of synthetic images, and over their share of a batch.

    python experiments/compare.py --dataset mnist --amounts 0.5 1 2 5 --shares 0.25 0.5 0.75      # makes the cells
    python -m analysis.sweeps                                           # of the newest comparison
    python -m analysis.sweeps --rows analysis/results/mnist/rows.csv    # of a file of rows, without a store

It prints, and writes to outputs/tables (with CSV and LaTeX, and one picture of both), a
table for the amounts and one for the shares, where there are cells of them:

    |   n_real | method |   synthetic / real |   images |   n |          accuracy, % |         gain, points |
    |---------:|:-------|-------------------:|---------:|----:|---------------------:|---------------------:|
    |      100 | ddpm   |                  0 |        0 |   5 | 87.60 [86.81, 88.39] |                +0.00 |
    |      100 | ddpm   |                0.5 |       50 |   5 | 88.68 [87.99, 89.37] | +1.08 [+0.32, +1.84] |
    |      100 | ddpm   |     20 (whole set) |    2,000 |   5 | 89.28 [88.59, 89.97] | +1.68 [+0.92, +2.44] |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis import accuracy_table, pages, statistics, tables
from analysis.accuracy_table import BASELINE
from analysis.lazily import Axes, Figure, pd, sns
from analysis.pages import Section
from analysis.tables import Table, interval_in
from harness import cli

SWEEPS = {
    "amount": r"([\d.e+-]+)x", "share": r"share=([\d.e+-]+)", "weight": r"weight=([\d.e+-]+)", "batch": r"batch=(\w+)",
}  # fmt: skip
"""A cell's variant in each sweep."""
BATCHES = ("none", "shared", "enlarged", "replaced")
"""How synthetic images come into a batch, by their place in the sweep: not, in real ones' stead by their share of all
images (a whole arm), besides the real ones, and each in the stead of one."""
LABELS = {
    "amount": "synthetic / real images", "share": "synthetic share of a batch",
    "weight": "weight of a synthetic image in the loss", "batch": "synthetic images in a batch",
}  # fmt: skip
HEADINGS = {
    "amount": ("n_real", "method", "synthetic / real", "images", "n", "accuracy, %", "gain, points"),
    "share": ("n_real", "method", "synthetic share", "n", "accuracy, %", "gain, points"),
    "weight": ("n_real", "method", "weight", "n", "accuracy, %", "gain, points"),
    "batch": ("n_real", "method", "batch", "n", "accuracy, %", "gain, points"),
}
MISSING = (
    "no cell of a sweep: experiments/compare.py --amounts 0.5 1 2 --shares 0.25 0.5, with the comparison's other "
    "flags, adds them"
)


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its part of the report, where there is a sweep."""
    swept = placed(cells)
    found = {sweep: points(swept, sweep) for sweep in SWEEPS}
    found = {sweep: table for sweep, table in found.items() if len(table)}
    if found:
        yield Section(
            "How many synthetic images, and in what share",
            tables={
                f"sweep_{sweep}": (shown(table, sweep, notes(swept, sweep)), named(table, sweep))
                for sweep, table in found.items()
            },
            pictures={"sweeps": (plot(found), "Gain over none with 95 % intervals")},
        )


# The numbers


def placed(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with their places in the sweeps: `amount` in multiples of n_real, `share` and `weight` 0 … 1, and that
    of `batch` in BATCHES; NaN where in none.

    A whole arm has the amount of its samples, a weight of 1 and a shared batch; the arm `none` is the beginning of all.
    """
    placed = cells.copy()
    for sweep, pattern in SWEEPS.items():
        found = placed["variant"].str.extract(f"^{pattern}$", expand=False)
        placed[sweep] = (found.map(BATCHES.index, na_action="ignore") if sweep == "batch" else found).astype(float)
        placed.loc[placed["method"] == BASELINE, sweep] = 0.0
    whole = (placed["variant"] == "") & (placed["method"] != BASELINE)
    placed.loc[whole, ["weight", "batch"]] = [1.0, BATCHES.index("shared")]
    placed.loc[whole, "amount"] = (placed["num_synthetic"] / placed["n_real"]).astype(float)
    return placed


def points(placed: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """One row per n_real, method and value of a sweep, ascending; of the methods that have cells of it at that n_real.

    The first row of each is the arm `none`, which gains nothing. Accuracies are in percent, gains in
    percentage points: means of num_seeds pairs with their 95 % t intervals, NaN where there is none. `whole` marks
    the arm with all its samples.
    """
    paired = accuracy_table.pairs(placed)
    arms = placed[swept(placed, sweep)][["n_real", "method"]].drop_duplicates()
    rows = []
    for n_real, method in arms.sort_values(["n_real", "method"]).itertuples(index=False):
        here = paired[(paired["n_real"] == n_real) & paired["method"].isin([BASELINE, method])]
        places = placed[(placed["n_real"] == n_real) & (placed["method"] == method) & placed[sweep].notna()]
        values = places[[sweep, "variant"]].drop_duplicates().sort_values([sweep, "variant"], ascending=[True, False])
        rows.append(row(here[here["method"] == BASELINE], n_real, method, sweep, 0.0, False))
        for value, variant in values.itertuples(index=False):
            own = here[(here["method"] == method) & (here["variant"] == variant)]
            rows.append(row(own, n_real, method, sweep, value, variant == ""))
    return pd.DataFrame(rows)


def named(table: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """`points` with the names of batches."""
    return table.assign(batch=[BATCHES[round(place)] for place in table["batch"]]) if sweep == "batch" else table


def swept(placed: pd.DataFrame, sweep: str) -> pd.Series:
    """Which cells are of a sweep and of nothing else."""
    return (placed["variant"] != "") & placed[sweep].notna()


def row(pairs: pd.DataFrame, n_real: int, method: str, sweep: str, value: float, whole: bool) -> dict[str, object]:
    """What is said of one value of a sweep, from its rows of `accuracy_table.pairs`."""
    return {
        "n_real": n_real,
        "method": method,
        sweep: value,
        "whole": whole,
        "num_seeds": len(pairs),
        **statistics.columns(statistics.mean_interval(pairs["augmented_percent"]), "accuracy", "percent"),
        **statistics.columns(accuracy_table.gain_of(pairs), "gain", "points"),
        **accuracy_table.run_ids(pairs),
    }


def missing(placed: pd.DataFrame, sweep: str) -> list[str]:
    """The seeds that a value of a sweep lacks of those that its n_real has, or that `none` lacks, as "n_real …".

    A value without any cell is not expected: a sweep leaves out what there are too few samples for.
    """
    taken = placed[swept(placed, sweep) | (placed["method"] == BASELINE)]
    cases = []
    for n_real, here in taken.groupby("n_real"):
        seeds = set(here["seed"])
        for (method, variant), own in here.groupby(["method", "variant"]):
            title = f"n_real {n_real}, {method} {variant}".strip()
            if lacking := sorted(seeds - set(own["seed"])):
                cases.append(f"{title}, {tables.seeds(lacking)}")
        if not (here["method"] == BASELINE).any():
            cases.append(f"n_real {n_real}, {BASELINE}")
    return cases


# The words


def notes(placed: pd.DataFrame, sweep: str) -> list[str]:
    """What stands under a sweep's table."""
    about = {
        "amount": "The synthetic images' share of a batch is their share of all images, at most one half, where the "
        "classifier's --synthetic-share does not say otherwise: below as many synthetic images as real ones it falls "
        "with the amount.",
        "share": "All of a generator's samples are drawn from, whatever their share; the batch keeps its size, so that "
        "real images make room.",
        "weight": "All of a generator's samples, in the batches of the whole arm, whose weight is 1; each counts by "
        "its weight in the loss.",
        "batch": "The same samples. Shared: a batch keeps its size, and synthetic images take real ones' places by "
        "their share of all images; enlarged: they come besides, so that real images are seen as often as by none; "
        "replaced: a real image gives way to one of its class.",
    }
    lines = [
        f"Data set {placed['dataset'].iloc[0]}, judge {placed['judge'].iloc[0][:12]}. Means over n seeds with 95 % t "
        "intervals. Gain: difference to none, the first row, paired by seed. The intervals are not corrected for the "
        "number of values: the best of many looks better than it is.",
        about[sweep],
    ]
    lacking = "; ".join(missing(placed, sweep))
    return lines + ([f"No finished cell, so its pairs are not counted in n: {lacking}."] if lacking else [])


def shown(table: pd.DataFrame, sweep: str, under: Sequence[str]) -> Table:
    """`points` as they are printed."""
    texts = []
    for row in table.to_dict("records"):
        place = BATCHES[round(row[sweep])] if sweep == "batch" else f"{row[sweep]:g}"
        place += " (whole set)" if row["whole"] and sweep == "amount" else ""
        texts.append(
            [
                str(row["n_real"]),
                row["method"],
                place,
                *([f"{round(row['amount'] * row['n_real']):,}"] if sweep == "amount" else []),
                str(row["num_seeds"]),
                interval_in(row, "accuracy", "percent"),
                interval_in(row, "gain", "points", "+z.2f"),
            ]
        )
    return Table(HEADINGS[sweep], texts, notes=under, group="n_real")


# The picture


def plot(found: dict[str, pd.DataFrame]) -> Figure:
    """Gain by a sweep's values, a row of panels per sweep, a panel per n_real: means, 95 % intervals. From `points`."""
    every = pd.concat(found.values())
    sizes, methods = sorted(every["n_real"].unique()), sorted(every["method"].unique())
    colours = dict(zip(methods, sns.color_palette("colorblind", len(methods)), strict=True))
    figure = Figure(figsize=(1.2 + 3.6 * len(sizes), 0.6 + 3 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), len(sizes), squeeze=False)
    for line, (sweep, table) in zip(panels, found.items(), strict=True):
        for panel, n_real in zip(line, sizes, strict=True):
            draw(panel, table[table["n_real"] == n_real], sweep, colours)
            panel.set(title=f"{n_real:,} real images", xlabel=LABELS[sweep], ylabel="gain over none [points]")
            sns.despine(ax=panel)
    return figure


def draw(panel: Axes, table: pd.DataFrame, sweep: str, colours: dict[str, tuple[float, float, float]]) -> None:
    """One panel: a line per method."""
    from matplotlib.ticker import NullLocator

    panel.axhline(0, color="0.6", linewidth=1, zorder=0)
    for place, (method, own) in enumerate(table.groupby("method")):
        reach = own[["gain_low_points", "gain_high_points"]].sub(own["gain_points"], axis=0).abs().fillna(0.0)
        panel.errorbar(own[sweep], own["gain_points"], reach.to_numpy().T, label=method, color=colours[str(method)],
                       marker="o", markersize=4, linewidth=1.2, elinewidth=1, capsize=2 + place)  # fmt: skip
    if len(table):
        panel.legend(frameon=False, fontsize=8)
    if sweep == "batch":
        panel.set_xticks(range(len(BATCHES)), BATCHES)
    if sweep == "amount" and len(table):
        values = sorted(table[sweep].unique())
        panel.set_xscale("symlog", linthresh=min(value for value in values if value > 0), linscale=0.5)
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.xaxis.set_minor_locator(NullLocator())


main = pages.script(sections, MISSING, __doc__)

if __name__ == "__main__":
    cli.main(main)
