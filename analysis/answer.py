"""A comparison's answer in its own run, where MLflow's UI shows it: figures by n_real, tables, pictures, a page.

`experiments/compare.py` calls it; `python -m analysis.accuracy_table` says the same of any other selection of cells.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
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


def log(run: tracking.Run, comparison: str, tracking_uri: str | None, to_come: Sequence[int] = ()) -> None:
    """Say in a comparison's run what its finished cells answer.

    Of several n_real, one that cells are `to_come` of has no figures yet, and no figure is said again: n_real is the
    step, and one with two values is a vertical line in MLflow's charts. Raises InputError where none has finished, or
    the store is away.
    """
    cells = runs.whole_arms(runs.comparison_cells(comparison, tracking_uri))
    grids = runs.by_setting(cells)
    tables = [accuracy_table.accuracy_table(own) for _, own in grids]
    caveat = f"Not the answer yet; cells to come: {len(to_come)}." if to_come else ""
    shown = (f"{title(setting)}{description(own, table)}" for (setting, own), table in zip(grids, tables, strict=True))
    first = [f"**{caveat}**\n"] if caveat else []
    run.describe("\n".join([*first, *shown]))
    arms = cells["method"].drop_duplicates().sort_values(key=accuracy_table.rank)
    sizes, seeds = (sorted(cells[name].unique()) for name in ("n_real", "seed"))
    run.tags({"arms": " ".join(arms), "n_real": " ".join(map(str, sizes)), "seeds": " ".join(map(str, seeds))})
    open_sizes = set(to_come) if len({*sizes, *to_come}) > 1 else set()
    found = [(setting, figures(table)) for (setting, _), table in zip(grids, tables, strict=True)]
    found += [(rest, figures_on_top(on_top.on_top(bare, augmented))) for rest, bare, augmented in on_top.halves(cells)]
    told = tracking.read_histories([comparison], None, tracking_uri).groupby(["key", "step"])["value"].last()
    for setting, by_n_real in found:
        for n_real in sorted(by_n_real.keys() - open_sizes):
            named = in_setting(by_n_real[n_real], setting)
            run.metrics({name: value for name, value in named.items() if told.get((name, n_real)) != value}, n_real)
    log_page(run, cells, Source((comparison,), tracking_uri=tracking_uri), caveat)


def log_page(run: tracking.Run, cells: pd.DataFrame, source: Source, caveat: str) -> None:
    """The tables' files and pictures, and a page of them all."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        parts = list(sections(cells, source, folder))
        for path in pages.write(parts, folder, ""):
            run.file(path, "tables")
        page, heading = folder / "answer.html", f"What is added to {cells['dataset'].iloc[0]}"
        page.write_text(pages.html(f"{heading}. {caveat}" if caveat else heading, parts, folder), encoding="utf-8")
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


def in_setting(values: dict[str, float], setting: str) -> dict[str, float]:
    """The names of figures of another setting than the classifier as it is end with it."""
    end = f"/{pages.in_names(setting)}" if setting else ""
    return {name + end: value for name, value in values.items()}


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
