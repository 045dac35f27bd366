"""Does a generator gain more than each control does? Paired by seed, from logged runs alone.

    python -m analysis.controls                                         # of the newest comparison
    python -m analysis.controls --rows analysis/results/mnist/rows.csv  # of a file of rows, without a store

It prints, and writes to outputs/tables (with CSV and LaTeX), a row per (n_real, generator, control):

    |   n_real | method | control   |   n |   method less control, points |     p |   p (Holm) |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from analysis import accuracy_table, pages, runs, statistics
from analysis.accuracy_table import CONTROLS
from analysis.lazily import pd
from analysis.pages import Section
from analysis.tables import Table, interval_in, p_value
from harness import cli

HEADINGS = ("n_real", "method", "control", "n", "method less control, points", "p", "p (Holm)")
MISSING = "no generator beside a control: run experiments/compare.py with --methods and --controls"
NOTE = (
    "Accuracy of the generator's classifier less that of the control's, paired by seed: means over n seeds with 95 % t "
    "intervals; p: paired t-test, and Holm-corrected over all generators and controls of one n_real."
)


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its part of the report, where there are generators and controls."""
    table = against(runs.whole_arms(cells))
    if len(table):
        yield Section("Generators beside each control", tables={"controls": (shown(table, [NOTE]), table)})


def against(cells: pd.DataFrame, figure: str = "accuracy") -> pd.DataFrame:
    """One row per (n_real, method, control) with seeds of both, in the order of the tables.

    `difference_points` is by how much the generator's figure, a column of the cells, is above the control's, with its
    95 % t interval over num_seeds pairs; `p_holm` is corrected over the rows of one n_real. `run_ids` are the
    generator's cells, `control_run_ids` the control's.
    """
    ordered = cells.sort_values(["n_real", "method", "seed"], key=accuracy_table.rank)
    controls = ordered[ordered["method"].isin(CONTROLS)]
    both = runs.of_generators(ordered).merge(controls, on=["n_real", "seed"], suffixes=("", "_of_control"))
    rows = []
    for (n_real, method, control), own in both.groupby(["n_real", "method", "method_of_control"], sort=False):
        found = statistics.paired_difference(100 * own[figure], 100 * own[f"{figure}_of_control"])
        rows.append(
            {
                "n_real": n_real,
                "method": method,
                "control": control,
                "num_seeds": len(own),
                **statistics.columns(found, "difference", "points"),
                "p": found.p,
                "p_holm": math.nan,
                "run_ids": " ".join(own["run_id"]),
                "control_run_ids": " ".join(own["run_id_of_control"]),
            }
        )
    table = pd.DataFrame(rows)
    if rows:
        table["p_holm"] = table.groupby("n_real")["p"].transform(lambda p: statistics.holm(p.to_numpy()))
    return table


def shown(table: pd.DataFrame, under: Sequence[str]) -> Table:
    """`against` as it is printed."""
    texts = [
        [
            str(row["n_real"]),
            row["method"],
            row["control"],
            str(row["num_seeds"]),
            interval_in(row, "difference", "points", "+z.2f"),
            p_value(row["p"]),
            p_value(row["p_holm"]),
        ]
        for row in table.to_dict("records")
    ]
    return Table(HEADINGS, texts, left=("method", "control"), notes=under, group="n_real")


main = pages.script(sections, MISSING, __doc__)

if __name__ == "__main__":
    cli.main(main)
