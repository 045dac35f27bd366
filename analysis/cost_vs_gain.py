"""What a gain costs: the arms by device-seconds, the Pareto front, and which to take within a budget.

    python -m analysis.cost_vs_gain                                         # of the newest comparison
    python -m analysis.cost_vs_gain --budgets 60 3600                       # in device-seconds
    python -m analysis.cost_vs_gain --rows analysis/results/mnist/rows.csv  # of a file of rows, without a store

It prints, and writes to outputs/tables (with CSV and LaTeX, and a picture):

    |   n_real | method   |   n |   cost, s |   classifier, s |         gain, points | front   | front of generators   |
    |---------:|:---------|----:|----------:|----------------:|---------------------:|:--------|:----------------------|
    |      100 | none     |   5 |       0.0 |              14 |                    - | -       | -                     |
    |      100 | affine   |   5 |       0.0 |              14 | +3.26 [+2.64, +3.88] | yes     | -                     |
    |      100 | ddpm     |   5 |       342 |              14 | +1.68 [+0.92, +2.44] | -       | yes                   |

    |   n_real |   budget, s | of all arms   |     its gain, points | of generators   |         gain, points | …
    |---------:|------------:|:--------------|---------------------:|:----------------|---------------------:|
    |      100 |         600 | affine        | +3.26 [+2.64, +3.88] | ddpm            | +1.68 [+0.92, +2.44] |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from analysis import accuracy_table, pages, runs, statistics
from analysis.accuracy_table import BASELINE, CONTROLS
from analysis.lazily import Axes, Figure, NDArray, np, pd, sns
from analysis.pages import Section
from analysis.runs import Source
from analysis.tables import Table, arm_columns, interval_in, seconds, with_interval
from harness import cli
from harness.bounds import NotNegative
from harness.errors import InputError

FREE = (BASELINE, *CONTROLS)
"""Arms without a generator."""

HEADINGS = ("n_real", "method", "n", "cost, s", "classifier, s", "gain, points", "front", "front of generators")
CHOICE_HEADINGS = (
    "n_real", "budget, s", "of all arms", "its gain, points", "of generators", "gain, points", "cost, s",
)  # fmt: skip

BUDGETS_S = (60.0, 600.0, 3600.0)


def main(
    source: Source = Source(),
    out: Path = Path("outputs/tables"),
    budgets: tuple[NotNegative, ...] = BUDGETS_S,
    json: cli.AsJson = False,
) -> None:
    """Print cost against gain and what to take within a budget; write both as md, csv and tex, and a plot.

    Args:
        source: where the cells are read
        out: folder for the files
        budgets: device-seconds for training a generator, sampling and filtering
    """
    if not budgets:
        raise InputError("--budgets needs device-seconds, such as 60 600 3600")
    parts = pages.each_setting(partial(sections, budgets=budgets), source.cells())
    pages.show(parts, out, runs.NO_ARM, json)


def sections(cells: pd.DataFrame, budgets: Sequence[float] = BUDGETS_S) -> Iterator[Section]:
    """Its part of the report, where there is an arm beside `none`."""
    arms = runs.whole_arms(cells)
    if arms["method"].eq(BASELINE).all():
        return
    table = costs(arms)
    chosen = recommendations(table, budgets)
    yield Section(
        "Cost beside gain",
        tables={
            "cost_vs_gain": (shown(table, notes(arms)), table),
            "recommendations": (choices_shown(chosen, choice_notes(arms, table)), chosen),
        },
        pictures={"cost_vs_gain": (plot(table), "Device-seconds against gain; lines join the Pareto fronts")},
    )


# The numbers


def costs(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per (n_real, method), in the order of the table, from the cells of whole arms.

    `cost_s`: device-seconds of the generator's training, its sampling and the filter, the mean of num_seeds pairs; 0
    for `none` and the unfiltered controls, NaN where a cell does not say. `classifier_s`: the classifier's own.
    Gains are percentage points with their 95 % t interval. `on_front` and `on_front_of_generators`: see `front`.
    """

    def row(arm: pd.DataFrame, n_real: int, method: str) -> dict[str, float]:
        gain = accuracy_table.gain_of(arm[:0] if method == BASELINE else arm)
        return {
            "cost_s": float(arm["cost_s"].mean(skipna=False)),
            "classifier_s": float(arm["classifier_training_s"].mean(skipna=False)),
            **statistics.columns(gain, "gain", "points"),
        }

    table = accuracy_table.by_arm(cells.assign(cost_s=cost(cells)), row)
    for name, left_out in (("on_front", (BASELINE,)), ("on_front_of_generators", FREE)):
        table[name] = False
        among = table[~table["method"].isin(left_out)]
        for _, here in among.groupby("n_real"):
            table.loc[here.index, name] = front(here["cost_s"].to_numpy(), here["gain_points"].to_numpy())
    return table


def cost(cells: pd.DataFrame) -> pd.Series:
    """Device-seconds that the arm of each cell took before its classifier."""
    chosen = cells["method"].str.endswith(runs.SELECTED)
    generator = (cells["generator_training_s"] + cells["generator_sampling_s"]).mask(cells["method"].isin(FREE), 0.0)
    return (generator + cells["filter_s"].where(chosen, 0.0)).astype(float)


def front(costs: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the arms, float [n] each, are worth their cost: they gain more than nothing, and no other one gains as
    much for less, or more for as much. Bool [n]; False where a figure is NaN."""
    cheaper = costs[None] <= costs[:, None]
    better = gains[None] >= gains[:, None]
    differ = (costs[None] < costs[:, None]) | (gains[None] > gains[:, None])
    return (gains > 0) & ~np.isnan(costs) & ~(cheaper & better & differ).any(1)


def recommendations(table: pd.DataFrame, budgets: Sequence[float]) -> pd.DataFrame:
    """One row per n_real and budget in device-seconds, ascending, from `costs`.

    `arm` is, of all arms whose cost is within the budget and whose gain's interval is above zero, the one of highest
    mean gain; `none` where there is no such. `generator` is the same of the generators alone. Each with gain, cost and
    runs.
    """
    rows = []
    for n_real, here in table.groupby("n_real"):
        for budget in sorted(set(budgets)):
            row: dict[str, object] = {"n_real": n_real, "budget_s": float(budget)}
            for name, left_out in (("arm", (BASELINE,)), ("generator", FREE)):
                row |= best(here[~here["method"].isin(left_out)], budget, name)
            rows.append(row)
    return pd.DataFrame(rows)


def best(arms: pd.DataFrame, budget: float, name: str) -> dict[str, object]:
    """The arm to take, with its figures under names that begin with `name`."""
    clear = arms[(arms["cost_s"] <= budget) & (arms["gain_low_points"] > 0)]
    none = {"method": BASELINE}
    taken = none if clear.empty else clear.sort_values(["gain_points", "cost_s"], ascending=[False, True]).iloc[0]
    figures = ("gain_points", "gain_low_points", "gain_high_points", "cost_s", "run_ids", "baseline_run_ids")
    return {name: taken["method"], **{f"{name}_{figure}": taken.get(figure, math.nan) for figure in figures}}


def beaten(cells: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The generators over which a control gains more, in points, from the cells and their `costs`.

    Columns: n_real, control (the one of highest mean gain), method, and by how much, paired by the seeds of both: mean,
    low, high (95 % t interval), num_seeds.
    """
    paired = accuracy_table.pairs(cells).set_index(["n_real", "method", "seed"]).sort_index()["augmented_percent"]
    rows = []
    for n_real, here in table.groupby("n_real"):
        controls = here[here["method"].isin(CONTROLS) & here["gain_points"].notna()]
        if controls.empty:
            continue
        control = controls.sort_values("gain_points").iloc[-1]
        worse = here[~here["method"].isin(FREE) & (here["gain_points"] < control["gain_points"])]
        for method in worse["method"]:
            both = pd.concat([paired[n_real, control["method"]], paired[n_real, method]], axis=1, join="inner")
            by = statistics.paired_difference(*both.to_numpy().T)
            rows.append([n_real, control["method"], method, *by[:3], len(both)])
    return pd.DataFrame(rows, columns=["n_real", "control", "method", "mean", "low", "high", "num_seeds"])


# The words


def notes(cells: pd.DataFrame) -> list[str]:
    """What stands under the table of costs."""
    return [
        f"Data set {cells['dataset'].iloc[0]}, judge {cells['judge'].iloc[0][:12]}. Means over n seeds; cost: "
        "device-seconds of the generator's training, sampling and filter, which controls do not have; classifier: "
        "those of its training, of every arm. Gain: difference to none, paired by seed, with a 95 % t interval. Front: "
        "gains more than nothing, and no other arm gains as much for less; by the means, whose intervals may overlap.",
        machines(cells),
        *accuracy_table.missing(cells),
    ]


def machines(cells: pd.DataFrame) -> str:
    """Where the seconds come from, in a sentence."""
    named = cells[["host", "device"]].astype(object).fillna("unknown")
    counts = named.groupby(["host", "device"], as_index=False).size()
    places = "; ".join(f"{host} ({device}): {count}" for host, device, count in counts.itertuples(index=False))
    several = " Seconds of different machines are not the same unit." if len(counts) > 1 else ""
    return (
        f"Cells by the machine that trained their classifier: {places}.{several} A generator's seconds are those of "
        "its own run, wherever that was."
    )


def choice_notes(cells: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What stands under the recommendations."""
    lines = [
        "Of the arms within the budget whose gain's 95 % interval is above zero the one of highest mean gain, else "
        "none; of all arms, and of generators alone. Chosen by the very figures shown, it is likely flattered by them."
    ]
    for (n_real, control), here in beaten(cells, table).groupby(["n_real", "control"]):
        by = ", ".join(
            f"{row['method']} ({with_interval(row['mean'], row['low'], row['high'], '+z.2f')})"
            for row in here.to_dict("records")
        )
        lines.append(f"n_real {n_real}: the control {control} gains more than {by}; points, paired by seed.")
    arms = table[table["method"] != BASELINE]
    silent = [n_real for n_real, here in arms.groupby("n_real") if here["gain_low_points"].isna().all()]
    if silent:
        sizes = ", ".join(map(str, silent))
        lines.append(f"No gain has an interval at n_real {sizes}, for want of seeds that vary: nothing is recommended.")
    unknown = arms[arms["cost_s"].isna() & (arms["num_seeds"] > 0)]
    if len(unknown):
        names = "; ".join(f"n_real {n_real}, {method}" for n_real, method in unknown[["n_real", "method"]].to_numpy())
        lines.append(f"Left out, for their cells do not say what they cost: {names}.")
    return lines


def shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`costs` as they are printed."""
    texts = [
        [
            *arm_columns(row),
            seconds(row["cost_s"]),
            seconds(row["classifier_s"]),
            interval_in(row, "gain", "points", "+z.2f"),
            "yes" if row["on_front"] else "-",
            "yes" if row["on_front_of_generators"] else "-",
        ]
        for row in table.to_dict("records")
    ]
    return Table(HEADINGS, texts, left=("method", "front", "front of generators"), notes=under, group="n_real")


def choices_shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`recommendations` as they are printed."""
    texts = [
        [
            str(row["n_real"]),
            f"{row['budget_s']:,.10g}",
            row["arm"],
            interval_in(row, "arm_gain", "points", "+z.2f"),
            row["generator"],
            interval_in(row, "generator_gain", "points", "+z.2f"),
            seconds(row["generator_cost_s"]),
        ]
        for row in table.to_dict("records")
    ]
    return Table(CHOICE_HEADINGS, texts, left=("of all arms", "of generators"), notes=under, group="n_real")


# The picture


def plot(table: pd.DataFrame) -> Figure:
    """Gain by cost, a panel per n_real, cost on a log axis that begins at zero: means, 95 % intervals, the front. From
    `costs`."""
    known = table[(table["method"] != BASELINE) & table["cost_s"].notna() & table["gain_points"].notna()]
    sizes = sorted(known["n_real"].unique())
    arms = known["method"].drop_duplicates().sort_values(key=accuracy_table.rank).tolist()
    colours = dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True))
    num_panels = max(len(sizes), 1)
    figure = Figure(figsize=(2.4 + 3.2 * num_panels, 3.8), layout="constrained")
    panels = figure.subplots(1, num_panels, sharex=True, squeeze=False)[0]
    costly = known.loc[known["cost_s"] > 0, "cost_s"]
    first, end = (10 ** math.floor(math.log10(costly.min())), 1.6 * costly.max()) if len(costly) else (1, 10)
    for panel, n_real in zip(panels, sizes, strict=False):
        draw(panel, known[known["n_real"] == n_real], colours, end)
        panel.set(title=f"{n_real:,} real images", xlabel="generator's cost [device-seconds]")
        sns.despine(ax=panel)
    panels[0].set(ylabel="gain in accuracy over none [points]")
    panels[0].set_xscale("symlog", linthresh=first, linscale=0.4)
    panels[0].set_xlim(-first / 4, end)
    panels[0].xaxis.set_major_formatter("{x:,g}")
    labelled = {label: mark for panel in panels for mark, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(labelled.values(), labelled.keys(), loc="outside right center", frameon=False)
    return figure


def draw(panel: Axes, table: pd.DataFrame, colours: dict[str, tuple[float, float, float]], end: float) -> None:
    """One panel: a mark per arm, a step line along each front up to a cost of `end`."""
    panel.axhline(0, color="0.6", linewidth=1, zorder=0)
    for row in table.to_dict("records"):
        mean, ends = row["gain_points"], [row["gain_low_points"], row["gain_high_points"]]
        marker = "s" if row["method"] in CONTROLS else "o"
        panel.errorbar(row["cost_s"], mean, np.nan_to_num(np.abs(np.subtract(ends, mean)))[:, None], marker=marker,
                       linestyle="none", color=colours[row["method"]], label=row["method"], elinewidth=1.2)  # fmt: skip
    for name, style, label in (("on_front", "-", "front"), ("on_front_of_generators", ":", "front of generators")):
        best = table[table[name]].sort_values("cost_s")
        if len(best):
            panel.step([*best["cost_s"], end], [*best["gain_points"], best["gain_points"].iloc[-1]], style,
                       where="post", color="0.4", linewidth=1, label=label, zorder=1)  # fmt: skip


if __name__ == "__main__":
    cli.main(main)
