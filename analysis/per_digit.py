"""Which classes gain: recall per class and arm beside that of real images alone, from logged runs alone.

    python -m analysis.per_digit                                    # of the newest comparison
    python -m analysis.per_digit --comparison mnist-600 mnist-6000  # of several, as one
    python -m analysis.per_digit --rows analysis/results/low-data/rows.csv

It prints, and writes to outputs/tables (with CSV, LaTeX and a heat
map per n_real), a row per (n_real, arm) and a column per class: the mean gain in points with its interval. The tests'
golden/per_digit.md shows it. The CSV has the conditional accuracy of each class besides, where it was logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis import accuracy_table, marks, pages, runs, statistics
from analysis.lazily import Figure, np, pd, sns
from analysis.pages import Section
from analysis.runs import BASELINE
from analysis.tables import Table, with_interval
from harness import cli

MISSING = (
    "no arm has recalls per class (test/recall_class_…) and a cell of none with its n_real and seed beside it; run the "
    "comparison again"
)

RUNS = ("run_id", "baseline_run_id")
MOST_NUMBERS = 30
"""Classes up to which a heat map shows its numbers."""


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its part of the report, where there is one."""
    whole = runs.whole_arms(cells)
    gained = gains(whole)
    if len(gained):
        table = per_class(gained)
        yield Section(
            "Gain by class",
            tables={"per_digit": (shown(table, whole), table)},
            pictures={"per_digit": (plot(table, whole), "Mean gain in recall over none, each n_real on its own scale")},
        )


# The numbers


def gains(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per class and cell that has a partner, one of `none` with the same n_real and seed.

    Columns run_id, baseline_run_id, n_real, method, seed, class (int), baseline_percent and gain_points: the recall of
    none, 0 … 100, and by how many points that of the cell is higher. `conditional_accuracy_percent` is that of the
    class's samples, NaN where it is not known. Empty where the cells have no recalls, or none has a partner.
    """
    classes = sorted(int(found[1]) for name in cells if (found := re.fullmatch(r"recall_class_(\d+)", str(name))))
    keys = ["n_real", "seed"]
    none = cells[cells["method"] == BASELINE].set_index(keys)
    arms = cells[cells["method"] != BASELINE]
    parts = []
    for label in classes:
        named = {f"recall_class_{label}": "baseline", "run_id": "baseline_run_id"}
        partners = none[list(named)].rename(columns=named).reset_index()
        part = arms.merge(partners, on=keys)
        agrees = part.get(f"conditional_accuracy_class_{label}", np.nan)
        part = part.assign(recall=part[f"recall_class_{label}"], agrees=agrees)
        parts.append(part[[*RUNS, "method", *keys, "recall", "baseline", "agrees"]].assign(**{"class": label}))
    if not parts:
        return pd.DataFrame()
    found = pd.concat(parts, ignore_index=True).dropna(subset=["recall", "baseline"])
    return pd.DataFrame(
        {
            **{name: found[name] for name in (*RUNS, "n_real", "method", "seed", "class")},
            "baseline_percent": 100 * found["baseline"],
            "gain_points": 100 * (found["recall"] - found["baseline"]),
            "conditional_accuracy_percent": 100 * found["agrees"],
        }
    )


def per_class(gained: pd.DataFrame) -> pd.DataFrame:
    """One row per (n_real, method, class), in the order of the accuracy table: the means of `gains` over num_seeds
    pairs, the ends of the gain's 95 % interval, gain_low_points and gain_high_points, and the runs."""
    rows = []
    for (n_real, method, label), own in gained.groupby(["n_real", "method", "class"]):
        rows.append(
            {
                "n_real": n_real,
                "method": method,
                "class": label,
                "num_seeds": len(own),
                "baseline_percent": own["baseline_percent"].mean(),
                **statistics.columns(statistics.mean_interval(own["gain_points"]), "gain", "points"),
                "conditional_accuracy_percent": own["conditional_accuracy_percent"].mean(skipna=False),
                **accuracy_table.run_ids(own),
            }
        )
    return pd.DataFrame(rows).sort_values(["n_real", "method", "class"], key=accuracy_table.rank, ignore_index=True)


# The words


def shown(table: pd.DataFrame, cells: pd.DataFrame) -> Table:
    """The table as it is printed: a row per (n_real, method), a column per class."""
    signs, classes = marks.signs(cells), sorted(table["class"].unique())
    texts = []
    for n_real, method in table[["n_real", "method"]].drop_duplicates().itertuples(index=False):
        own = table[(table["n_real"] == n_real) & (table["method"] == method)]
        by_class = own.set_index("class")[["gain_points", "gain_low_points", "gain_high_points"]].reindex(classes)
        texts.append(
            [str(n_real), method + signs.get((n_real, method), ""), str(own["num_seeds"].max())]
            + [with_interval(mean, low, high, "+z.2f") for mean, low, high in by_class.itertuples(index=False)]
        )
    note = (
        f"Data set {cells['dataset'].iloc[0]}. Gain in recall of each class over none, in points: means over n pairs "
        "by seed with 95 % t intervals, each on its own; one in twenty misses zero by chance alone."
    )
    headings = ("n_real", "method", "n", *runs.class_names(cells, classes))
    return Table(headings, texts, notes=[note, *marks.notes(cells)], group="n_real")


# The picture


def plot(table: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Gain in recall, a heat map per n_real: arms by class, each its mean in points. From `per_class`.

    The numbers stand in it where there is room for them.
    """
    sizes = sorted(table["n_real"].unique())
    arms = table["method"].drop_duplicates().sort_values(key=accuracy_table.rank)
    figure = Figure(figsize=(1.5 + 5.2 * len(sizes), 1.3 + 0.36 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for panel, n_real in zip(panels, sizes, strict=True):
        own = table[table["n_real"] == n_real]
        means = own.pivot(index="method", columns="class", values="gain_points").reindex(arms)
        means.columns = runs.class_names(cells, list(means.columns))
        # Its own scale: with more real images gains are ten times smaller.
        reach = float(means.abs().max(axis=None)) or 1.0
        sns.heatmap(
            means, vmin=-reach, vmax=reach, cmap="vlag_r", annot=means.shape[1] <= MOST_NUMBERS, fmt="+.2f",
            annot_kws={"size": 7}, ax=panel, cbar_kws={"label": "gain in recall [points]"},
        )  # fmt: skip
        panel.set(title=f"{n_real} real images", xlabel="class", ylabel="")
        panel.tick_params(rotation=0)
    return figure


main = pages.script(sections, MISSING, __doc__)

if __name__ == "__main__":
    cli.main(main)
