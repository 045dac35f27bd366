"""What the samples look like: a sheet of each generator's, and those closest to the images that it saw.

Part of the report. The pictures are artifacts of the generators' runs, so they need the store; a report that is built
from a file of rows alone shows those that stand in its folder from before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis import runs
from analysis.lazily import Figure, np, pd
from analysis.pages import Section
from analysis.runs import Source
from harness import tracking
from harness.errors import InputError

SHEETS = {
    "samples": "Samples, a row per class, of one seed",
    "closest_pairs": "Of each class the samples closest to images which their generator saw, each before that image",
}
"""Pictures of a generator's run."""


def sections(cells: pd.DataFrame, source: Source, out: Path) -> Iterator[Section]:
    """Its part of the report: sheets from the store, else those that stand in the folder, where there are any."""
    shown = one_of_each(cells) if source.comparison or not source.rows else cells[:0]
    pictures: dict[str, tuple[Figure | None, str]] = {}
    for name, words in SHEETS.items():
        found = sheets(shown, name, source.tracking_uri)
        if found:
            pictures[name] = (plot(found), words)
        elif (out / f"{name}.png").exists():
            pictures[name] = (None, words)
    if pictures:
        yield Section("Samples", pictures=pictures)


def one_of_each(cells: pd.DataFrame) -> pd.DataFrame:
    """The cell of each generator and n_real with the last seed: a generator's run each, in order."""
    own = runs.of_generators(runs.whole_arms(cells)).dropna(subset=["samples_run"])
    own = own[~own["method"].str.endswith(runs.SELECTED)]
    return own.sort_values(["n_real", "method", "seed"]).drop_duplicates(["n_real", "method"], keep="last")


def sheets(cells: pd.DataFrame, name: str, tracking_uri: str | None = None) -> dict[tuple[int, str], np.ndarray]:
    """The picture of that name by (n_real, method); without those whose run has none."""
    found = {}
    for cell in cells.itertuples():
        try:
            with tracking.fetched(str(cell.samples_run), f"pictures/{name}.png", tracking_uri) as path:
                import matplotlib.image

                found[cell.n_real, cell.method] = matplotlib.image.imread(path)
        except InputError:
            continue  # runs of before had fewer pictures
    return found


def plot(found: dict[tuple[int, str], np.ndarray], inches: float = 2.6) -> Figure:
    """The pictures, a row per n_real, a column per method."""
    sizes, methods = sorted({n_real for n_real, _ in found}), sorted({method for _, method in found})
    figure = Figure(figsize=(inches * len(methods), (inches + 0.3) * len(sizes)), layout="constrained")
    panels = figure.subplots(len(sizes), len(methods), squeeze=False)
    for line, n_real in zip(panels, sizes, strict=True):
        for panel, method in zip(line, methods, strict=True):
            panel.set_axis_off()
            if (n_real, method) in found:
                panel.imshow(found[n_real, method], cmap="gray", vmin=0, vmax=1)
                panel.set_title(f"{method}, {n_real:,} real images", fontsize=9)
    return figure
