"""Is there a gain at all, over seeds to come, and over seeds and test images to come?

    python -m analysis.significance                                         # of the newest comparison
    python -m analysis.significance --rows analysis/results/mnist/rows.csv  # of a file of rows, without a store

About 20 s, most of it imports. It prints a table, and writes it to outputs/tables (with CSV and LaTeX):

    |   n_real | method |   n |   gain over seeds, points | p | p (Holm) |   over seeds and images | …

A row per (n_real, method); the arms are those found in the runs' `method` tags.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from analysis import accuracy_table, pages, runs, statistics
from analysis.accuracy_table import BASELINE
from analysis.lazily import NDArray, np, pd
from analysis.pages import Section
from analysis.tables import Table, arm_columns, interval_in, number, p_value, with_interval
from harness import cli
from harness.errors import InputError

HEADINGS = (
    "n_real", "method", "n", "gain over seeds, points", "p", "p (Holm)", "over seeds and images", "images alone, ±",
    "improvement, %", "detectable, points",
)  # fmt: skip


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its part of the report, where there is an arm beside `none`."""
    arms = runs.whole_arms(cells)
    if not arms["method"].eq(BASELINE).all():
        tested = tests(arms)
        yield Section("Is there a gain at all?", tables={"significance": (shown(tested, notes(arms)), tested)})


# The numbers


def tests(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per (n_real, method) but `none`, from the cells of whole arms: is there a gain at all?

    `gain_points` has the t interval over seeds, `p` is the paired t-test's, `p_holm` corrected over the arms of one
    n_real. `crossed_points` is the gain of the num_tested seeds whose two cells say which test images they got right,
    with an interval over seeds and images; `images_points` half the width that the images alone make of it.
    `improvement` (0 … 1) is how likely one of the arm's runs beats one of none's; `detectable_points` is the gain that
    as many seeds with this spread show with 80 % power.
    """
    right = shares_right(cells)

    def row(arm: pd.DataFrame, n_real: int, method: str) -> dict[str, float]:
        gain, crossed = accuracy_table.gain_of(arm), crossed_gain(arm, right)
        better = statistics.UNKNOWN
        if len(arm):
            better = statistics.probability_of_improvement([arm["augmented_percent"]], [arm["baseline_percent"]])
        return {
            **statistics.columns(gain, "gain", "points"),
            "p": gain.p,
            "p_holm": math.nan,
            "num_tested": sum(pair(cell, right) is not None for cell in arm.itertuples()),
            **statistics.columns(statistics.Estimate(*crossed[:3]), "crossed", "points"),
            "images_points": crossed.images,
            "improvement": better.value,
            "improvement_low": better.low,
            "improvement_high": better.high,
            "detectable_points": statistics.detectable_effect(arm["gain_points"]),
        }

    table = accuracy_table.by_arm(cells, row)
    table = table[table["method"] != BASELINE].reset_index(drop=True)
    table["p_holm"] = table.groupby("n_real")["p"].transform(lambda p: statistics.holm(p.to_numpy()))
    return table


def shares_right(cells: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Which share of a cell's classifiers got each test image right, [test images], by run id, where it is known."""
    number = cells.set_index("run_id").get("initialisations", pd.Series(1, cells["run_id"]))
    return {run_id: counts / number[run_id] for run_id, counts in runs.right_counts(cells).items()}


def pair(cell: Any, right: dict[str, NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """What a cell of `accuracy_table.pairs` and its partner got right; None where one of them does not say.

    Raises InputError where these are not of the same test images.
    """
    if cell.run_id not in right or cell.baseline_run_id not in right:
        return None
    ours, theirs = right[cell.run_id], right[cell.baseline_run_id]
    if len(ours) != len(theirs):
        raise InputError(f"cells {cell.run_id} and {cell.baseline_run_id} saw {len(ours)} and {len(theirs)} test "
                         "images; compare those of one test set")  # fmt: skip
    return ours, theirs


def crossed_gain(arm: pd.DataFrame, right: dict[str, NDArray[np.float64]]) -> statistics.Crossed:
    """The gain of an arm's rows of `accuracy_table.pairs` over seeds and images, in points; of the pairs that say."""
    found = [both for cell in arm.itertuples() if (both := pair(cell, right))]
    if not found:
        return statistics.Crossed(*[math.nan] * 4)
    return statistics.crossed_interval(np.stack([100 * (ours - theirs) for ours, theirs in found]))


# The words


def notes(cells: pd.DataFrame) -> list[str]:
    """What stands under the table of tests."""
    lines = [
        "Gain over seeds: with the paired t interval; p: paired t-test over n seeds, and Holm-corrected over the arms "
        "of one n_real. Over seeds and images: the same gain with an interval that is also over test images to come, "
        "which each seed's classifiers share (seeds and images crossed, initialisations within a seed's mean); images "
        "alone: what they would make of it with seeds without number. Improvement: how likely a run of the arm beats "
        "one of none's, with a bootstrap interval (from five seeds on). Detectable: the gain that n seeds with this "
        "spread show with 80 % power."
    ]
    if most := int(cells.get("initialisations", pd.Series([1])).max()):
        lines += [f"A cell is the mean of up to {most} initial weights."] if most > 1 else []
    right = runs.right_counts(cells)
    own = cells[cells["run_id"].isin(right)]
    parts = [
        f"{of_test_set(none['accuracy'].mean(), len(right[none['run_id'].iloc[0]])):.2g} at n_real {n_real}"
        for n_real, none in own[own["method"] == BASELINE].groupby("n_real")
    ]
    if parts:
        lines.append("The t interval of an accuracy is over seeds alone: as many other test images would move that of "
                     f"none by ± {', '.join(parts)} points (95 %).")  # fmt: skip
    if unknown := len(cells) - len(own):
        lines.append(f"{unknown} of {len(cells)} cells do not say which images they got right; over images count the "
                     "seeds whose two cells do.")  # fmt: skip
    return lines


def of_test_set(accuracy: float, num_images: int) -> float:
    """Half the width of the 95 % interval of an accuracy, 0 … 1, over test images alone; points."""
    return 100 * 1.96 * math.sqrt(accuracy * (1 - accuracy) / num_images)


def shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`tests` as they are printed."""
    texts = []
    for row in table.to_dict("records"):
        crossed = interval_in(row, "crossed", "points", "+z.2f")
        fewer = f" ({row['num_tested']} seeds)" if 0 < row["num_tested"] < row["num_seeds"] else ""
        texts.append(
            [
                *arm_columns(row),
                interval_in(row, "gain", "points", "+z.2f"),
                p_value(row["p"]),
                p_value(row["p_holm"]),
                crossed + fewer,
                number(row["images_points"]),
                percent(row["improvement"], row["improvement_low"], row["improvement_high"]),
                number(row["detectable_points"]),
            ]
        )
    return Table(HEADINGS, texts, notes=under, group="n_real")


def percent(*estimate: float) -> str:
    return with_interval(*(100 * share for share in estimate), style=".0f")


main = pages.script(sections, runs.NO_ARM, __doc__)

if __name__ == "__main__":
    cli.main(main)
