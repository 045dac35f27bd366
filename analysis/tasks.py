"""Over all data sets: what each arm adds on top of augmentation, a task for each data set and number of real images.

    python -m analysis.tasks --rows analysis/results/*/rows.csv

It prints two tables, and writes them to outputs/tables (with CSV, LaTeX and a picture of the gains): a row per task and
arm, and a row per arm:

    | method | tasks |   IQM of gain on top, points | better than affine, % | above zero | of | marginal cost, s |
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis import accuracy_table, on_top, pages, runs, statistics
from analysis.accuracy_table import BASELINE
from analysis.lazily import Figure, pd, sns
from analysis.pages import Section
from analysis.tables import Table, arm_columns, interval_in, p_value, seconds, with_interval
from harness import cli
from harness.errors import InputError

SCALE = "affine"
VERDICT_SEEDS = 5
"""A task of fewer seeds carries no verdict."""
TASK = ["dataset", "n_real"]
TASK_HEADINGS = ("data set", "n_real", "method", "n", "gain over bare, points", "gain on top, points", "p (Holm)")
ARM_HEADINGS = (
    "method", "tasks", "IQM of gain on top, points", "better than affine, %", "above zero", "of", "marginal cost, s",
)  # fmt: skip
NOTE = (
    "A task is a data set at a number of real images. Gain on top: augmented arm less augmented none, paired by seed; "
    "Holm's correction over the arms of a task. IQM: interquartile mean over tasks and seeds (Agarwal et al. 2021, "
    "arXiv:2108.13264) with a 95 % interval that resamples seeds within tasks, each of which counts as much. "
    "Better than affine: how likely a run of the arm beats one of affine, mean over tasks. Above zero: tasks with a "
    f"p (Holm) below {on_top.SIGNIFICANT} and a gain, of those with {VERDICT_SEEDS} seeds and more. Marginal cost: "
    "device-seconds of the generator's training, sampling and of choosing its samples, mean over tasks."
)

PICTURE = "Gain on top of augmentation by task (data set, real images), with 95 % intervals; arms of half of the tasks"


def main(
    rows: tuple[Path, ...] = (),
    out: Path = Path("outputs/tables"),
    json: cli.AsJson = False,
) -> None:
    """Print what arms add on top of augmentation over all data sets; write it as md, csv and tex, with its picture.

    Args:
        rows: files of cells, of a data set each, as analysis.report --rows writes them
        out: folder for the files
    """
    if not rows:
        raise InputError("give --rows with a file for each data set, such as analysis/results/*/rows.csv")
    pages.show(sections([runs.read_rows(path) for path in rows]), out, on_top.MISSING, json)


def sections(data_sets: Sequence[pd.DataFrame]) -> Iterator[Section]:
    """The one part, where a data set has augmented arms."""
    known = [cells for cells in map(runs.whole_arms, data_sets) if any(_halves(cells))]
    if known:
        every = pd.concat(known, ignore_index=True).drop_duplicates("run_id")  # files may overlap, or be given twice
        found = [half for _, own in every.groupby("dataset", sort=False) for half in _halves(runs.checked(own))]
        parts = [on_top.on_top(bare, own).assign(dataset=own["dataset"].iloc[0]) for bare, own in found]
        table = pd.concat(parts, ignore_index=True)
        table = table[table["method"] != BASELINE].reset_index(drop=True)
        arms = by_arm(table, pd.concat([augmented for _, augmented in found], ignore_index=True))
        yield Section(
            "Over all data sets",
            tables={"tasks": (tasks_shown(table), table), "tasks_by_arm": (arms_shown(arms), arms)},
            pictures={"tasks": (plot(table, arms), PICTURE)},
        )


def _halves(cells: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The bare cells of a data set and its augmented ones, where there are arms of both."""
    for rest, bare, augmented in on_top.halves(cells):
        if not rest and not augmented["method"].eq(BASELINE).all():
            yield bare, augmented


# The numbers


def by_arm(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """One row per method, from the tasks' gains (`on_top.on_top` with `dataset`) and their augmented cells.

    `iqm_points` with its ends, `improvement` (0 … 1) over `affine` with its ends, num_tasks, of which num_decided have
    VERDICT_SEEDS seeds and num_above a gain that Holm's correction leaves; `marginal_s`. What an arm lacks is NaN.
    """
    paired = pd.concat([accuracy_table.pairs(own) for _, own in cells.groupby("dataset")], ignore_index=True)
    gains = {str(method): by_task(own) for method, own in paired.groupby("method")}
    rows = []
    for method in table["method"].drop_duplicates().sort_values(key=accuracy_table.rank):
        own, arm = table[table["method"] == method], paired[paired["method"] == method]
        decided = own[own["num_seeds"] >= VERDICT_SEEDS]
        above = (decided["p_holm"] < on_top.SIGNIFICANT) & (decided["on_top_points"] > 0)
        beside = {task: gains[SCALE][task] for task in gains[method] if task in gains.get(SCALE, {})}
        better = statistics.UNKNOWN
        if beside and method != SCALE:
            better = statistics.probability_of_improvement([gains[method][task] for task in beside], [*beside.values()])
        costs = arm[["generator_training_s", "generator_sampling_s", "filter_s"]].fillna(0).sum(axis=1)
        rows.append(
            {
                "method": method,
                "num_tasks": len(own),
                **statistics.columns(statistics.iqm([*gains[method].values()]), "iqm", "points"),
                **{f"improvement{end}": value for end, value in zip(("", "_low", "_high"), better, strict=True)},
                "num_above": int(above.sum()),
                "num_decided": len(decided),
                "marginal_s": costs.groupby([arm[name] for name in TASK]).mean().mean(),
                **accuracy_table.run_ids(arm),
            }
        )
    return pd.DataFrame(rows)


def by_task(paired: pd.DataFrame) -> dict[object, list[float]]:
    """An arm's gains in points, a list over its seeds for each task."""
    return {task: own.sort_values("seed")["gain_points"].tolist() for task, own in paired.groupby(TASK)}


# The words


def tasks_shown(table: pd.DataFrame) -> Table:
    """A row per task and arm as it is printed."""
    texts = [
        [
            row["dataset"],
            *arm_columns(row),
            interval_in(row, "gain", "points", "+z.2f"),
            interval_in(row, "on_top", "points", "+z.2f"),
            p_value(row["p_holm"]) if row["num_seeds"] >= VERDICT_SEEDS else "-",
        ]
        for row in table.to_dict("records")
    ]
    return Table(TASK_HEADINGS, texts, left=("data set", "method"), notes=[NOTE], group="data set")


def arms_shown(table: pd.DataFrame) -> Table:
    """A row per arm as it is printed."""
    texts = [
        [
            row["method"],
            str(row["num_tasks"]),
            interval_in(row, "iqm", "points", "+z.2f"),
            with_interval(*(100 * row[f"improvement{end}"] for end in ("", "_low", "_high")), style=".0f"),
            str(row["num_above"]),
            str(row["num_decided"]),
            seconds(row["marginal_s"]) if not math.isnan(row["marginal_s"]) else "-",
        ]
        for row in table.to_dict("records")
    ]
    return Table(ARM_HEADINGS, texts, left=("method",), notes=[NOTE])


# The picture


def plot(table: pd.DataFrame, arms: pd.DataFrame) -> Figure:
    """The gain on top of augmentation of each task, and the IQM over them: a panel for each arm of half of the tasks.

    table: a row per task and arm, as `by_arm` takes it; arms: what that gives.
    """
    tasks = list(dict.fromkeys(table[TASK].itertuples(index=False, name=None)))
    shown = [row for row in arms.to_dict("records") if 2 * row["num_tasks"] >= len(tasks)]
    figure = Figure(figsize=(1.8 * len(shown) + 1.4, 0.28 * len(tasks) + 1), layout="constrained")
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for panel, arm in zip(panels, shown, strict=True):
        own = table[table["method"] == arm["method"]]
        places = [tasks.index(task) for task in own[TASK].itertuples(index=False, name=None)]
        panel.axvline(0, color="0.6", linewidth=1)
        panel.hlines(places, own["on_top_low_points"], own["on_top_high_points"])
        panel.plot(own["on_top_points"], places, "o", markersize=4)
        panel.hlines(len(tasks), arm["iqm_low_points"], arm["iqm_high_points"], color="black")
        panel.plot(arm["iqm_points"], len(tasks), "D", markersize=4, color="black")
        panel.set_title(arm["method"], fontsize="small")
        sns.despine(ax=panel)
    names = [f"{dataset}, {n_real:,}" for dataset, n_real in tasks]
    panels[0].set_yticks(range(len(tasks) + 1), [*names, "over tasks (IQM)"])
    panels[0].invert_yaxis()
    figure.supxlabel("gain on top [points]", fontsize="medium")
    return figure


if __name__ == "__main__":
    cli.main(main)
