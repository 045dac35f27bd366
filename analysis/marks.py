"""Which generators have collapsed or copy: marks that stand in the tables, so that no mean hides them.

Controls are not marked: they are made of copies.
"""

from __future__ import annotations

from collections.abc import Iterator

from analysis import runs, tables
from analysis.lazily import np, pd

SIGNS = {"collapsed": "†", "copies": "‡"}

COVERAGE_OF_FLOOR = 0.5
"""Half of what real images cover is left out: a class, or whole kinds of a digit, are missing."""
MIN_DIVERSITY = 0.25
"""A class with a quarter of the real spread is some few images with noise around them."""
MIN_CONDITIONAL_ACCURACY = 0.5
"""Every other label is wrong: the label is ignored, or the images are no digits."""
MIN_COPY_ODDS = 10.0
"""Fresh real images, and generators that had 60,000 of MNIST, have 0.9 to 1.01; generators that had 1,000 have 1.5 to
2.8, affine moves of those 2.6; repeated and noisy images more than 1,000."""
MAX_COPY_P = 0.001
"""That of the test of copies: a blurred or small set has large odds by chance."""

MEANINGS = {
    "collapsed": f"coverage under {COVERAGE_OF_FLOOR:g} of real images', diversity of a class under {MIN_DIVERSITY:g} "
    f"or conditional accuracy under {MIN_CONDITIONAL_ACCURACY:g}",
    "copies": f"the odds that a sample's nearest real image is one that the generator saw are {MIN_COPY_ODDS:g} times "
    f"those of chance, p < {MAX_COPY_P:g}",
}


def marks(cells: pd.DataFrame) -> pd.DataFrame:
    """Whether each cell's generator has `collapsed` or `copies`: bool, in the index of the cells.

    A cell without the figures (0 … 1 but for the odds, see `runs.finished_cells`), and one of no generator, has no
    mark.
    """
    coverage, floor, diversity, agrees, odds, p = (
        cells[name] if name in cells else pd.Series(np.nan, cells.index)
        for name in (
            "quality_coverage", "floor_coverage", "quality_diversity", "conditional_accuracy", "quality_copy_odds",
            "quality_copy_p",
        )
    )  # fmt: skip
    collapsed = (
        (coverage < COVERAGE_OF_FLOOR * floor) | (diversity < MIN_DIVERSITY) | (agrees < MIN_CONDITIONAL_ACCURACY)
    )
    copies = (odds >= MIN_COPY_ODDS) & (p < MAX_COPY_P)
    generator = cells.index.isin(runs.of_generators(cells).index)
    return pd.DataFrame({"collapsed": collapsed & generator, "copies": copies & generator})


def signs(cells: pd.DataFrame) -> dict[tuple[int, str], str]:
    """What stands behind the method of each (n_real, method) that has a marked seed, such as " †"."""
    found: dict[tuple[int, str], str] = {}
    for mark, n_real, method, _ in _marked(cells):
        found[n_real, method] = f"{found.get((n_real, method), ' ')}{SIGNS[mark]}"
    return found


def notes(cells: pd.DataFrame) -> list[str]:
    """A paragraph for each mark that some seed has: which they are, and what the mark means."""
    lines = []
    for mark, sign in SIGNS.items():
        cases = [
            f"{method} at n_real {n_real}, {tables.seeds(own['seed'])} (of {_count(cells, n_real, method)} seeds; "
            "counted in the means)"
            for of, n_real, method, own in _marked(cells)
            if of == mark
        ]
        if cases:
            lines.append(f"{sign} {mark}: {'; '.join(cases)}. That is: {MEANINGS[mark]}.")
    return lines


def _marked(cells: pd.DataFrame) -> Iterator[tuple[str, int, str, pd.DataFrame]]:
    """Mark, n_real, method and the cells that have the mark, in order."""
    found = marks(cells)
    for mark in SIGNS:
        own = cells[found[mark]].sort_values(["n_real", "method", "seed"])
        for n_real, method in own[["n_real", "method"]].drop_duplicates().itertuples(index=False):
            yield mark, n_real, method, own[(own["n_real"] == n_real) & (own["method"] == method)]


def _count(cells: pd.DataFrame, n_real: int, method: str) -> int:
    return int(((cells["n_real"] == n_real) & (cells["method"] == method)).sum())
