"""The method-vs-accuracy table of a comparison, from its logged runs alone.

    python -m analysis.accuracy_table                                   # of the newest comparison
    python -m analysis.accuracy_table --comparison mnist-low-data --tracking-uri sqlite:///mlflow.db

It prints, and writes to outputs/tables (with CSV, LaTeX and a plot):

    | n_real | method |  n |          baseline, % |        augmented, % |         gain, points |      p | …
    |-------:|:-------|---:|---------------------:|--------------------:|---------------------:|-------:|
    |    600 | none   |  3 | 94.88 [94.50, 95.27] |                   - |                    - |      - |
    |    600 | affine |  3 |                94.88 | 96.64 [96.44, 96.84] | +1.76 [+1.54, +1.98] | <0.001 |

A row per (n_real, method); the arms are those found in the runs' `method` tags.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from analysis import marks, pages, runs, statistics
from analysis.lazily import Figure, np, pd, sns
from analysis.pages import Section
from analysis.runs import BASELINE, CONTROLS
from analysis.tables import Table, interval_in, number, p_value, seconds, seeds, with_interval
from harness import cli, outputs, tracking

HEADINGS = (
    "n_real", "method", "n", "baseline, %", "augmented, %", "gain, points", "p", "p (Holm)",
    "cond. acc., %", "CAS, %", "training, s", "sampling, s",
)  # fmt: skip


def main(
    comparison: str | None = None,
    tracking_uri: str | None = None,
    out: Path = Path("outputs/tables"),
    json: cli.AsJson = False,
) -> None:
    """Print a comparison's accuracy table; write it as Markdown, CSV, LaTeX and plot; add these to its run.

    Args:
        comparison: run id or unique run name of the comparison; the newest one if not given
        tracking_uri: the MLflow store or server; as everywhere in the harness if not given
        out: folder for the four files
    """
    outputs.make_folder(out)
    parent = runs.comparison_id(comparison, tracking_uri)
    paths = pages.show(pages.each_setting(sections, runs.comparison_cells(parent, tracking_uri)), out, "", json)
    tracking.log_files(parent, paths, "tables", tracking_uri)


def write(cells: pd.DataFrame, out: Path) -> list[Path]:
    """Write accuracy_table.md, .csv, .tex and .png of `runs.finished_cells` into a folder; their paths."""
    return pages.write(pages.each_setting(sections, cells), out, "")


def sections(cells: pd.DataFrame) -> Iterator[Section]:
    """Its part of the report."""
    whole = runs.whole_arms(cells)
    table = accuracy_table(whole)
    yield Section(
        "Accuracy",
        tables={"accuracy_table": (shown(table, notes(whole), marks.signs(whole)), table)},
        pictures={"accuracy_table": (plot(pairs(whole)), "Gain by arm: mean with 95 % interval, each seed a dot")},
    )


# The numbers


def pairs(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells (of one setting) that have a partner: one of arm `none` with the same n_real and seed.

    `none` is its own.

    Adds `baseline_run_id`, the partner's, `baseline_percent`, `augmented_percent` (accuracy of the partner and of the
    cell) and `gain_points`, their difference in percentage points.
    """
    partners = cells.loc[cells["method"] == BASELINE, ["n_real", "seed", "accuracy", "run_id"]]
    paired = cells.merge(partners, on=["n_real", "seed"], suffixes=("", "_of_partner"))
    paired = paired.rename(columns={"run_id_of_partner": "baseline_run_id"})
    paired["baseline_percent"] = 100 * paired.pop("accuracy_of_partner")
    paired["augmented_percent"] = 100 * paired["accuracy"]
    paired["gain_points"] = paired["augmented_percent"] - paired["baseline_percent"]
    return paired.sort_values(["n_real", "method", "seed"], key=rank, ignore_index=True)


def accuracy_table(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per (n_real, method), in the order of the table.

    Means over the num_seeds pairs of the row. Columns in percent are 0 … 100, gains are percentage points,
    costs device-seconds. `accuracy_low_percent` and `accuracy_high_percent` are the 95 % interval of the
    row's own accuracy: `augmented_percent`, or `baseline_percent` in the row of `none`. `p_holm` is
    corrected over the arms of one n_real. What a row does not have is NaN.
    """
    table = by_arm(cells, lambda arm, _, method: row(arm, method == BASELINE))
    table["p_holm"] = table.groupby("n_real")["p"].transform(lambda p: statistics.holm(p.to_numpy()))
    return table


def by_arm(cells: pd.DataFrame, row: Callable[[pd.DataFrame, int, str], dict[str, Any]]) -> pd.DataFrame:
    """A row per (n_real, method), in order: num_seeds, `row` of the arm's own `pairs`, n_real and method, `run_ids`."""
    paired = pairs(cells)
    arms = cells[["n_real", "method"]].drop_duplicates().sort_values(["n_real", "method"], key=rank)
    found = dict(iter(paired.groupby(["n_real", "method"])))
    parts = (
        (n_real, method, found.get((n_real, method), paired[:0])) for n_real, method in arms.itertuples(index=False)
    )
    return pd.DataFrame(
        [
            {"n_real": n_real, "method": method, "num_seeds": len(arm)} | row(arm, n_real, method) | run_ids(arm)
            for n_real, method, arm in parts
        ]
    )


def run_ids(paired: pd.DataFrame) -> dict[str, str]:
    """Which runs some rows of `pairs` are, and which their partners: two columns of a table, a space between ids."""
    return {column: " ".join(paired[column[:-1]].unique()) for column in ("run_ids", "baseline_run_ids")}


def gain_of(arm: pd.DataFrame) -> statistics.Difference:
    """The gain of an arm's rows of `pairs`."""
    return statistics.paired_difference(arm["augmented_percent"], arm["baseline_percent"])


def row(arm: pd.DataFrame, is_baseline: bool) -> dict[str, object]:
    """What the table says of one (n_real, method), from its rows of `pairs`; `p_holm` needs the others."""
    accuracy = statistics.mean_interval(arm["augmented_percent"])
    gain = gain_of(arm[:0] if is_baseline else arm)

    def mean(name: str) -> float:
        return float(arm[name].mean(skipna=False))  # of all n seeds, or of none

    return {
        "baseline_percent": mean("baseline_percent"),
        "augmented_percent": math.nan if is_baseline else accuracy.value,
        "accuracy_low_percent": accuracy.low,
        "accuracy_high_percent": accuracy.high,
        **statistics.columns(gain, "gain", "points"),
        "p": gain.p,
        "p_holm": math.nan,
        "conditional_accuracy_percent": 100 * mean("conditional_accuracy"),
        "cas_percent": 100 * mean("cas"),
        "generator_training_s": mean("generator_training_s"),
        "generator_sampling_s": mean("generator_sampling_s"),
        "classifier_training_s": mean("classifier_training_s"),
    }


def rank(values: pd.Series) -> pd.Series:
    """A sort key: methods as none, controls, then generators by name; numbers as they are."""
    if values.name != "method":
        return values
    first = (BASELINE, *CONTROLS)
    return values.map(lambda method: (first.index(method) if method in first else len(first), method))


def missing_pairs(cells: pd.DataFrame) -> list[tuple[int, str, int]]:
    """The (n_real, method, seed) without which a finished cell has no partner, in the order of the table.

    For every n_real each arm of the comparison is expected at each seed that any arm has there; where `none` is alone,
    it is a point of the learning curve.
    """
    expected = (
        (n_real, method, seed)
        for n_real, there in cells.groupby("n_real")
        if set(there["method"]) != {BASELINE}
        for method in cells["method"].unique()
        for seed in there["seed"].unique()
    )
    present = set(zip(cells["n_real"], cells["method"], cells["seed"], strict=True))
    lacking = pd.DataFrame([cell for cell in expected if cell not in present], columns=["n_real", "method", "seed"])
    ordered = lacking.sort_values(list(lacking.columns), key=rank)
    return [(int(n_real), str(method), int(seed)) for n_real, method, seed in ordered.itertuples(index=False)]


# The words


def notes(cells: pd.DataFrame) -> list[str]:
    """What stands under the table, a paragraph each."""
    lines = [
        f"Data set {cells['dataset'].iloc[0]}, judge {cells['judge'].iloc[0][:12]}. Means over n seeds with "
        "95 % t intervals. Gain: difference to none, paired by seed; p: paired t-test, and Holm-corrected "
        "over the arms of one n_real. Training and sampling: device-seconds of the generator.",
        *marks.notes(cells),
    ]
    return lines + missing(cells)


def missing(cells: pd.DataFrame) -> list[str]:
    """The note that names the cells without which others have no partner; none where all are there."""
    by_arm = groupby(missing_pairs(cells), key=lambda cell: cell[:2])
    cases = "; ".join(
        f"n_real {n_real}, {method}, {seeds(seed for *_, seed in own)}" for (n_real, method), own in by_arm
    )
    return [f"No finished cell, so its pairs are not counted in n: {cases}."] if cases else []


def shown(table: pd.DataFrame, under: Sequence[str], signs: Mapping[tuple[int, str], str] | None = None) -> Table:
    """The table as it is printed; `signs` stand behind a row's method, see `marks.signs`."""
    return Table(HEADINGS, words(table, signs or {}), notes=under, group="n_real")


def words(table: pd.DataFrame, signs: Mapping[tuple[int, str], str]) -> list[list[str]]:
    """The cells of the printed table as text, a list per row, in the order of HEADINGS."""
    texts = []
    for row in table.to_dict("records"):
        own = row["accuracy_low_percent"], row["accuracy_high_percent"]
        baseline = row["baseline_percent"]
        texts.append(
            [
                str(row["n_real"]),
                row["method"] + signs.get((row["n_real"], row["method"]), ""),
                str(row["num_seeds"]),
                with_interval(baseline, *own) if row["method"] == BASELINE else number(baseline),
                with_interval(row["augmented_percent"], *own),
                interval_in(row, "gain", "points", "+z.2f"),
                p_value(row["p"]),
                p_value(row["p_holm"]),
                number(row["conditional_accuracy_percent"]),
                number(row["cas_percent"]),
                seconds(row["generator_training_s"]),
                seconds(row["generator_sampling_s"]),
            ]
        )
    return texts


# The picture


def plot(paired: pd.DataFrame) -> Figure:
    """Gain in points by arm, a panel per n_real: mean with 95 % interval, each seed a dot. From `pairs`."""
    gains = paired[paired["method"] != BASELINE]
    sizes = sorted(gains["n_real"].unique())
    arms = gains["method"].drop_duplicates().sort_values(key=rank).tolist()
    num_panels = max(len(sizes), 1)
    figure = Figure(figsize=(1.2 + 3.2 * num_panels, 1.2 + 0.4 * len(arms)), layout="constrained")
    panels = figure.subplots(1, num_panels, sharey=True, squeeze=False)[0]
    colours = dict(zip(arms, sns.color_palette("colorblind", len(arms)), strict=True))
    for panel, n_real in zip(panels, sizes, strict=False):
        shown = {"data": gains[gains["n_real"] == n_real], "x": "gain_points", "y": "method", "ax": panel}
        shown |= {"order": arms, "hue": "method", "palette": colours, "legend": False}
        panel.axvline(0, color="0.6", linewidth=1, zorder=0)
        sns.stripplot(**shown, size=4, alpha=0.7, jitter=False)
        for dots in panel.collections:  # under the interval, which would hide them
            dots.set_offsets(np.add(dots.get_offsets(), (0, 0.25)))
        sns.pointplot(**shown, errorbar=ends, linestyle="none", marker="D", markersize=4, err_kws={"linewidth": 1.5})
        panel.set(title=f"{n_real} real images", xlabel="gain in accuracy over none [points]", ylabel="")
        sns.despine(ax=panel)
    return figure


def ends(gains: Iterable[float]) -> tuple[float, float]:
    """The ends of the 95 % interval, for seaborn."""
    estimate = statistics.mean_interval(np.fromiter(gains, dtype=np.float64))
    return estimate.low, estimate.high


if __name__ == "__main__":
    cli.main(main)
