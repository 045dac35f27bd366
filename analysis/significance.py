"""Is there a gain at all? Tests of two kinds: of seeds to come, and of these classifiers on the test images.

    python -m analysis.significance                                         # of the newest comparison
    python -m analysis.significance --rows analysis/results/mnist/rows.csv  # of a file of rows, without a store

About 20 s, most of it imports. It prints a table, and writes it to outputs/tables (with CSV and LaTeX):

    |   n_real | method |   n |      p |   p (Holm) |   images won, lost |   p (McNemar) |   seeds better, worse | …

A row per (n_real, method); the arms are those found in the runs' `method` tags.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from analysis import accuracy_table, pages, runs, statistics
from analysis.accuracy_table import BASELINE
from analysis.lazily import np, pd
from analysis.pages import Section
from analysis.tables import Table, number, p_value, with_interval
from harness import cli, tracking
from harness.errors import InputError

SIGNIFICANT = 0.05
"""The p below which a seed's McNemar test is counted."""

HEADINGS = (
    "n_real", "method", "n", "p", "p (Holm)", "images won, lost", "p (McNemar)", "seeds better, worse",
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

    `p` is the paired t-test's, `p_holm` corrected over the arms of one n_real. McNemar's test is of the num_tested
    seeds whose two classifiers' answers are known: won_images and lost_images are the test images that the arm's alone
    or none's alone got right, over the seeds; num_better and num_worse the seeds with a p below SIGNIFICANT.
    `improvement` (0 … 1) is how likely one of the arm's runs beats one of none's; `detectable_points` is the gain that
    as many seeds with this spread show with 80 % power.
    """
    answers = answers_of(cells)

    def row(arm: pd.DataFrame, n_real: int, method: str) -> dict[str, float]:
        gain = accuracy_table.gain_of(arm)
        counts = [
            statistics.mcnemar_test(answers[n_real, method, seed], answers[n_real, BASELINE, seed])
            for seed in arm["seed"]
            if (n_real, method, seed) in answers and (n_real, BASELINE, seed) in answers
        ]
        together = statistics.combined_mcnemar(counts)
        clear = [each.only_treated > each.only_baseline for each in counts if each.p < SIGNIFICANT]
        better = statistics.UNKNOWN
        if len(arm):
            scores = (arm[name].to_numpy()[:, None] for name in ("augmented_percent", "baseline_percent"))
            better = statistics.probability_of_improvement(*scores)
        return {
            "p": gain.p,
            "p_holm": math.nan,
            "num_tested": len(counts),
            "won_images": together.only_treated,
            "lost_images": together.only_baseline,
            "p_mcnemar": together.p,
            "num_better": clear.count(True),
            "num_worse": clear.count(False),
            "improvement": better.value,
            "improvement_low": better.low,
            "improvement_high": better.high,
            "detectable_points": statistics.detectable_effect(arm["gain_points"]),
        }

    table = accuracy_table.by_arm(cells, row)
    table = table[table["method"] != BASELINE].reset_index(drop=True)
    table["p_holm"] = table.groupby("n_real")["p"].transform(lambda p: statistics.holm(p.to_numpy()))
    return table


def answers_of(cells: pd.DataFrame) -> dict[tuple[int, str, int], np.ndarray]:
    """Which test images a cell got right, bool [n], by (n_real, method, seed); without the cells that do not say.

    Raises InputError for a text that is no such list.
    """
    found = {}
    for cell in cells[cells["right"].notna()].to_dict("records"):
        try:
            found[cell["n_real"], cell["method"], cell["seed"]] = tracking.unpacked(cell["right"])
        except ValueError as error:
            raise InputError(f"cell {cell['run_id']} does not say which test images it got right ({error}); "
                             "read it from its store again") from error  # fmt: skip
    return found


# The words


def notes(cells: pd.DataFrame) -> list[str]:
    """What stands under the table of tests."""
    lines = [
        "p: paired t-test over n seeds, and Holm-corrected over the arms of one n_real. McNemar: test images that only "
        "the arm's classifier or only none's got right, over all seeds, with the exact test's p; seeds in which the "
        f"test alone is below {SIGNIFICANT}. It speaks of these classifiers, the t-test of seeds to come. Improvement: "
        "how likely a run of the arm beats one of none's, with a bootstrap interval (from five seeds on). Detectable: "
        "the gain that n seeds with this spread show with 80 % power."
    ]
    unknown = cells.loc[cells["right"].isna()]
    if len(unknown):
        lines.append(f"{len(unknown)} of {len(cells)} cells do not say which images they got right; McNemar's test is "
                     "of the seeds whose two cells do.")  # fmt: skip
    return lines


def shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`tests` as they are printed."""
    texts = []
    for row in table.to_dict("records"):
        counted = row["num_tested"] > 0
        texts.append(
            [
                str(row["n_real"]),
                row["method"],
                str(row["num_seeds"]),
                p_value(row["p"]),
                p_value(row["p_holm"]),
                f"{row['won_images']}, {row['lost_images']}" if counted else "-",
                p_value(row["p_mcnemar"]),
                f"{row['num_better']}, {row['num_worse']} of {row['num_tested']}" if counted else "-",
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
