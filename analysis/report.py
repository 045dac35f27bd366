"""The whole answer as one HTML page and as Markdown: protocol, tables, pictures, claims, and every run behind them.

    python -m analysis.report --comparison grid grid-100 --rows analysis/results/mnist/rows.csv
    python -m analysis.report --rows analysis/results/mnist/rows.csv            # again, without MLflow

About 30 s. With both, the cells of the comparisons are added to the rows of the file, and the report is of all.
The page asks the network for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from analysis import (
    accuracy_table,
    claims,
    controls,
    cost_vs_gain,
    equivalence,
    long_tail,
    low_data,
    on_top,
    pages,
    per_digit,
    quality_vs_gain,
    runs,
    samples,
    significance,
    sweeps,
    tasks,
)
from analysis.claims import ExtraInputs
from analysis.lazily import pd
from analysis.pages import Section
from analysis.runs import Source
from analysis.tables import Table
from harness import cli, outputs

ANALYSES = (
    accuracy_table,
    significance,
    controls,
    low_data,
    sweeps,
    equivalence,
    quality_vs_gain,
    cost_vs_gain,
    per_digit,
)
PROTOCOL = (
    "A generator sees only the same n_real real images as the classifier. Arms at every n_real: none, the controls "
    "duplicate, affine and noise, each generator, and its samples filtered by a classifier of the same real images.",
    "For a seed every arm has the same real images in the same order, the same initial weights and the same number of "
    "optimizer steps: gains are differences to none, seed by seed. Where classifiers have other settings (such as "
    "augment=True: their images are moved afresh at every step), those of each setting, none among them, are a grid of "
    "their own, and gains are differences within it. A batch holds synthetic images in their share of "
    "all images, at most one half. Hyperparameters were chosen on validation images; the test images were scored once "
    "per cell.",
    "The judge is one classifier trained on all real training images; its weights' digest is below. Its features are "
    "the space of FID, KID, precision, recall, density, coverage and diversity, against one half of the test images; "
    "the floor is the other half.",
)


def main(
    source: Source = Source(),
    besides: ExtraInputs = ExtraInputs(),
    confirmatory: tuple[str, ...] = (),
    others: tuple[Path, ...] = (),
    out: Path = Path("outputs/report"),
    json: cli.AsJson = False,
) -> None:
    """Write report.html, report.md and all tables and pictures; with --comparison and --rows, add to the file.

    Args:
        source: where the grid's cells are read
        besides: what some claims need beside them
        confirmatory: arms that were named beforehand, as in analysis.on_top
        others: files of cells of other data sets, for one table over all of them, as in analysis.tasks
        out: folder for the files
    """
    with cli.answer(json) as answer:
        shown, paths = write(source, besides, out, confirmatory, others)
        answer.update(pages.told(shown, paths))
    if not json:
        print(paths[0])


def write(
    source: Source, besides: ExtraInputs, out: Path, confirmatory: Sequence[str] = (), others: Sequence[Path] = ()
) -> tuple[list[Section], list[Path]]:
    """Write the report into a folder; its parts, and the paths, that of the page first."""
    if source.comparison and source.rows:
        cells = runs.add_rows(replace(source, rows=None).cells(), source.rows)
    else:
        cells = source.cells()
    outputs.make_folder(out)
    ids = set(_ids(cells))
    shown = [
        replace(
            part,
            tables={
                name: (_linked(table, part.setting, ids), numbers) for name, (table, numbers) in part.tables.items()
            },
        )
        for part in sections(cells, source, besides, out, confirmatory, others)
    ]
    paths = [out / "report.html", out / "report.md", *(path for section in shown for path in section.write(out))]
    title = f"Does synthetic data make a classifier better? {cells['dataset'].iloc[0]}"
    paths[1].write_text(_markdown(title, shown), encoding="utf-8")
    paths[0].write_text(pages.html(title, shown, out), encoding="utf-8")
    return shown, paths


def sections(
    cells: pd.DataFrame,
    source: Source,
    besides: ExtraInputs,
    out: Path,
    confirmatory: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> Iterator[Section]:
    """The parts of the report, in their order. What the cells say nothing of is left out."""
    yield Section("Protocol", [*PROTOCOL, *provenance(cells)])
    yield from on_top.sections(cells, confirmatory)
    if others:
        yield from tasks.sections([cells, *map(runs.read_rows, others)])
    yield claims.section(cells, besides)
    for analysis in ANALYSES:
        yield from pages.each_setting(analysis.sections, cells)
    yield from long_tail.sections(cells)
    yield from samples.sections(cells, source, out)
    yield Section(
        "Every run", tables={"runs": (provenance_table(cells), cells.drop(columns=runs.PLACE, errors="ignore"))}
    )


def provenance(cells: pd.DataFrame) -> list[str]:
    """Where the figures come from, and what they took."""

    def listed(column: str, length: int = 99) -> str:
        return ", ".join(sorted({text[:length] for text in cells[column].dropna().astype(str)})) or "unknown"

    seeds = [f"{n_real:,}: {own['seed'].nunique()}" for n_real, own in cells.groupby("n_real")]
    return [
        f"Data set {listed('dataset')}. Seeds by n_real: {'; '.join(seeds)}. {len(cells)} classifiers.",
        f"Judge {listed('judge', 12)}. Commits {listed('commit', 10)}. Machines: {listed('host')} ({listed('device')}; "
        f"{listed('mixed_precision')}).",
        f"All of it took {device_seconds(cells) / 3600:.1f} device-hours, trainings and sampling.",
    ]


def device_seconds(cells: pd.DataFrame) -> float:
    """What the cells took together; a generator that several classifiers share counts once."""
    generators = cells.dropna(subset=["samples_run"]).drop_duplicates("samples_run")
    own = cells[["classifier_training_s", "filter_s"]].fillna(0).to_numpy().sum()
    return float(own + generators[["generator_training_s", "generator_sampling_s"]].fillna(0).to_numpy().sum())


def provenance_table(cells: pd.DataFrame) -> Table:
    """A row per cell with its runs, commit and data, to which the other tables' rows lead."""
    ordered = cells.sort_values(runs.KEY)
    columns = [*runs.KEY, "accuracy", "run_id", "samples_run", "commit", "data_digest"]
    rows = [
        ["" if pd.isna(value) else f"{value:.4f}" if name == "accuracy" else str(value)[:32]
         for name, value in zip(columns, row, strict=True)]
        for row in ordered[columns].itertuples(index=False)
    ]  # fmt: skip
    heads = [*runs.KEY, "test accuracy", "run", "generator's run", "commit", "data digest"]
    names = _ids(ordered)
    first = [name if names.index(name) == place else "" for place, name in enumerate(names)]
    return Table(
        heads, rows, ("method", "variant", "setting", "run", "generator's run", "commit", "data digest"), ids=first
    )


def _ids(cells: pd.DataFrame) -> list[str]:
    """The name of each cell's (n_real, arm, setting) inside the page."""
    named = zip(cells["n_real"], cells["method"], cells["setting"].map(pages.in_names), strict=True)
    return ["-".join(filter(None, map(str, name))) for name in named]


def _linked(table: Table, setting: str, ids: set[str]) -> Table:
    """The rows that are of one (n_real, method) lead to its runs in the setting of their table."""
    if table.ids or not {"n_real", "method"} <= set(table.headings):
        return table
    places = [list(table.headings).index(name) for name in ("n_real", "method")]
    end = f"-{pages.in_names(setting)}" if setting else ""
    wanted = ["-".join(row[place].replace(",", "").split(" ")[0] for place in places) + end for row in table.rows]
    return replace(table, links=[name if name in ids else "" for name in wanted])


def _markdown(title: str, shown: Sequence[Section]) -> str:
    parts = [f"# {title}"]
    for section in shown:
        parts += [f"## {section.title}", *section.words]
        parts += [table.markdown().strip() for table, _ in section.tables.values()]
        parts += [f"![{of}]({name}.png)" for name, (_, of) in section.pictures.items()]
    return "\n\n".join([*parts, ""])


if __name__ == "__main__":
    cli.main(main)
