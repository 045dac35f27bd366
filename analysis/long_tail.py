"""A long tail: what each arm does for the rare classes, beside the usual remedies. From logged runs alone.

    python experiments/compare.py --imbalance 100 --n-real 1000 --levelled --more-classifiers class_weights=True
    python -m analysis.long_tail                                         # of the newest comparison

It prints a table, and writes it to outputs/tables (with CSV and LaTeX):

    |   n_real | method | n | balanced accuracy, % | gain, points | recall of the rare third, % | gain in it, points | …

`duplicate-levelled` is oversampling, `affine-levelled` moves the images of rare classes, `class-weights` is `none` with
weights in its loss. A second table has each generator's recall of the rare third less that of each of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis import accuracy_table, controls, pages, runs, statistics
from analysis.accuracy_table import BASELINE
from analysis.lazily import np, pd
from analysis.pages import Section
from analysis.runs import WEIGHTED, Source
from analysis.tables import Table, arm_columns, p_value
from harness import cli

HEADINGS = (
    "n_real", "method", "n", "balanced accuracy, %", "gain, points", "recall of the rare third, %",
    "gain in it, points", "p (Holm)",
)  # fmt: skip
FIGURES = {"balanced": "recall", "rare": "recall_rare"}
"""What is compared, by the columns of the cells: the mean recall of all classes, and of the rare third."""
WEIGHTS = "class_weights=True"
MISSING = "no cell of a long tail: experiments/compare.py --imbalance 100 makes them"


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its parts of the report, one for each setting of the classifiers, where classes were imbalanced on purpose."""
    yield from pages.each_setting(in_setting, pd.concat([cells, weighted(cells)], ignore_index=True))


def weighted(cells: pd.DataFrame) -> pd.DataFrame:
    """`none` of the settings with class weights, as an arm of the settings that are the same without."""
    parts = [str(setting).split(",") for setting in cells["setting"]]
    without = [",".join(part for part in own if part != WEIGHTS) for own in parts]
    renamed = cells.assign(method=WEIGHTED, setting=without)
    has_weights = np.array([WEIGHTS in own for own in parts], dtype=bool)
    return renamed[has_weights & (cells["method"] == BASELINE) & renamed["setting"].isin(cells["setting"])]


def in_setting(cells: pd.DataFrame) -> Iterator[Section]:
    whole = runs.whole_arms(cells)
    if whole["recall_rare"].notna().any():
        table, beside = by_arm(whole), controls.against(whole, "recall_rare")
        tables = {"long_tail": (shown(table, [note(whole)]), table)}
        if len(beside):
            tables["long_tail_controls"] = (controls.shown(beside, [BESIDE]), beside)
        yield Section("The rare classes", tables=tables)


def by_arm(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per (n_real, method), in the order of the tables.

    For each of FIGURES `NAME_percent`, and `NAME_gain_points` over `none`, paired by seed, with t intervals; `p` of
    the gain of the rare classes, and `p_holm`, corrected over the arms of one n_real.
    """

    def row(arm: pd.DataFrame, n_real: int, method: str) -> dict[str, float]:
        found, gain = {}, statistics.paired_difference([], [])
        for name, column in FIGURES.items():
            ours, theirs = (100 * arm[of].to_numpy() for of in (column, f"{column}_of_none"))
            gain = statistics.paired_difference(*((ours, theirs) if method != BASELINE else ([], [])))
            found |= statistics.columns(statistics.mean_interval(ours), name, "percent")
            found |= statistics.columns(gain, f"{name}_gain", "points")
        return found | {"p": gain.p}

    of_none = cells.loc[cells["method"] == BASELINE, ["n_real", "seed", *FIGURES.values()]]
    paired = cells.merge(of_none, on=["n_real", "seed"], how="left", suffixes=("", "_of_none"))
    table = accuracy_table.by_arm(paired, row)
    table["p_holm"] = table.groupby("n_real")["p"].transform(lambda p: statistics.holm(p.to_numpy()))
    return table


BESIDE = (
    "Recall of the rare third with the generator's images less that with the control's, paired by seed: means over n "
    "seeds with 95 % t intervals; p: paired t-test, and Holm-corrected over all generators and controls of one n_real."
)


def note(cells: pd.DataFrame) -> str:
    return (
        f"Data set {cells['dataset'].iloc[0]}. Balanced accuracy: the mean recall of all classes; the rare third: of "
        "those with fewest real images. Means over n seeds with 95 % t intervals; gain: difference to none, paired by "
        "seed; p: paired t-test of the rare third's, Holm-corrected over the arms of one n_real. Levelled: of an arm's "
        "images as many as make each class as large as the largest; duplicate-levelled is oversampling."
    )


def shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    texts = [
        [*arm_columns(row, ("balanced", "balanced_gain"), ("rare", "rare_gain")), p_value(row["p_holm"])]
        for row in table.to_dict("records")
    ]
    return Table(HEADINGS, texts, notes=under, group="n_real")


def main(source: Source = Source(), out: Path = Path("outputs/tables"), json: cli.AsJson = False) -> None:
    """A long tail: what each arm does for the rare classes, beside the usual remedies. From logged runs alone.

    It is printed, and written as md, csv and tex.

    Args:
        source: where the cells are read
        out: folder for the files
    """
    pages.show(sections(source.cells()), out, MISSING, json)


if __name__ == "__main__":
    cli.main(main)
