"""A comparison's answer in its own run, where MLflow's UI shows it: figures by n_real, tables, pictures, a page.

`experiments/compare.py` calls it; `python -m analysis.accuracy_table` says the same of any other selection of cells.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from analysis import accuracy_table, low_data, marks, on_top, pages, runs, samples
from analysis.accuracy_table import BASELINE
from analysis.lazily import pd
from analysis.pages import Section
from analysis.runs import Source
from harness import tracking

FIGURES = {
    "test/gain": "gain_points",
    "test/gain_low": "gain_low_points",
    "test/gain_high": "gain_high_points",
    "test/p_holm": "p_holm",
}
ON_TOP = {
    "test/gain_on_top": "on_top_points",
    "test/gain_on_top_low": "on_top_low_points",
    "test/gain_on_top_high": "on_top_high_points",
}
SHORT = ("n_real", "method", "n", "accuracy, %", "gain, points", "p (Holm)", "training, s")
"""The columns of the description, which has room for few."""


def log(run: tracking.Run, comparison: str, tracking_uri: str | None, is_whole: bool) -> None:
    """Say in a comparison's run what its finished cells answer; figures and pictures once they all are there.

    Raises InputError where none has finished, or the store is away.
    """
    cells = runs.whole_arms(runs.comparison_cells(comparison, tracking_uri))
    grids = runs.by_setting(cells)
    tables = [accuracy_table.accuracy_table(own) for _, own in grids]
    run.describe("\n".join(f"{title(setting)}{description(own, table)}"
                           for (setting, own), table in zip(grids, tables, strict=True)))  # fmt: skip
    arms = cells["method"].drop_duplicates().sort_values(key=accuracy_table.rank)
    sizes, seeds = (sorted(cells[name].unique()) for name in ("n_real", "seed"))
    run.tags({"arms": " ".join(arms), "n_real": " ".join(map(str, sizes)), "seeds": " ".join(map(str, seeds))})
    if is_whole:
        for (setting, _), table in zip(grids, tables, strict=True):
            log_figures(run, figures(table), setting)
        for rest, bare, augmented in on_top.halves(cells):
            log_figures(run, figures_on_top(on_top.on_top(bare, augmented)), rest)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            parts = list(sections(cells, Source((comparison,), tracking_uri=tracking_uri), folder))
            for path in pages.write(parts, folder, ""):
                run.file(path, "tables")
            page = folder / "answer.html"
            page.write_text(pages.html(f"What is added to {cells['dataset'].iloc[0]}", parts, folder), encoding="utf-8")
            run.file(page)


def sections(cells: pd.DataFrame, source: Source, folder: Path) -> Iterator[Section]:
    """The parts of the page: the tables, gain on top, the learning curve of several n_real, the samples."""
    yield from pages.each_setting(accuracy_table.sections, cells)
    yield from on_top.sections(cells)
    if cells["n_real"].nunique() > 1:
        yield from pages.each_setting(low_data.sections, cells)
    yield from samples.sections(cells, source, folder)


def title(setting: str) -> str:
    """What stands above a setting's table."""
    return f"### {setting}\n\n" if setting else ""


def log_figures(run: tracking.Run, found: dict[int, dict[str, float]], setting: str) -> None:
    """By n_real; the names of those of another setting than the classifier as it is end with it."""
    end = f"/{pages.in_names(setting)}" if setting else ""
    for n_real, values in found.items():
        run.metrics({name + end: value for name, value in values.items()}, n_real)


def figures_on_top(table: pd.DataFrame) -> dict[int, dict[str, float]]:
    """By n_real: `test/gain_on_top/ARM` and its interval (points), over augmented classifiers of `none`."""
    found: dict[int, dict[str, float]] = {}
    for row in table.to_dict("records"):
        own = {f"{name}/{row['method']}": row[column] for name, column in ON_TOP.items()}
        found.setdefault(int(row["n_real"]), {}).update({k: v for k, v in own.items() if not math.isnan(v)})
    return found


def figures(table: pd.DataFrame) -> dict[int, dict[str, float]]:
    """By n_real, which is their step in the UI: `test/accuracy/ARM` (0 … 1), `test/gain/ARM` and its interval (points),
    `test/p_holm/ARM`, `cost/generator_device_seconds/ARM`.
    """
    found: dict[int, dict[str, float]] = {}
    for row in table.to_dict("records"):
        accuracy = row["baseline_percent" if row["method"] == BASELINE else "augmented_percent"]
        values = {
            "test/accuracy": accuracy / 100,
            **{name: row[column] for name, column in FIGURES.items()},
            "cost/generator_device_seconds": row["generator_training_s"] + row["generator_sampling_s"],
        }
        of_arm = {f"{name}/{row['method']}": value for name, value in values.items() if not math.isnan(value)}
        found.setdefault(int(row["n_real"]), {}).update(of_arm)
    return found


def description(cells: pd.DataFrame, table: pd.DataFrame) -> str:
    """The table's main columns and its caveats, as Markdown."""
    whole = accuracy_table.shown(table, accuracy_table.notes(cells), marks.signs(cells))
    rows = [dict(zip(whole.headings, row, strict=True)) for row in whole.rows]
    for row in rows:
        row["accuracy, %"] = row["baseline, %" if row["method"] == BASELINE else "augmented, %"]
    return replace(whole, headings=SHORT, rows=[[row[heading] for heading in SHORT] for row in rows]).markdown()
