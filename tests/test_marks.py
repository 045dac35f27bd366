"""Marks of generators that have collapsed or copy: at their thresholds, in the notes, in the accuracy table."""

import numpy as np
import pandas as pd
import pytest
from known_cells import measured_cells

from analysis import accuracy_table, marks


def changed(method: str, n_real: int, seeds: list[int], **figures: float) -> pd.DataFrame:
    cells = measured_cells()
    which = (cells["method"] == method) & (cells["n_real"] == n_real) & cells["seed"].isin(seeds)
    cells.loc[which, list(figures)] = list(figures.values())
    return cells


def marked(cells: pd.DataFrame, mark: str) -> list[tuple[int, str, int]]:
    found = cells[marks.marks(cells)[mark]]
    return list(found[["n_real", "method", "seed"]].itertuples(index=False, name=None))


def test_sound_generators_have_no_mark() -> None:
    cells = measured_cells()
    assert not marks.marks(cells).any(axis=None)
    assert marks.signs(cells) == {}
    assert marks.notes(cells) == []


@pytest.mark.parametrize(
    ("figures", "mark"),
    [
        ({"quality_coverage": 0.47}, "collapsed"),  # the floor is 0.95
        ({"quality_coverage": 0.48}, None),
        ({"quality_diversity": 0.249}, "collapsed"),
        ({"quality_diversity": 0.25}, None),
        ({"conditional_accuracy": 0.499}, "collapsed"),
        ({"conditional_accuracy": 0.5}, None),
        ({"quality_copy_odds": 10, "quality_copy_p": 0.0009}, "copies"),
        ({"quality_copy_odds": 10, "quality_copy_p": 0.001}, None),
        ({"quality_copy_odds": 9.9, "quality_copy_p": 0}, None),
        ({"quality_coverage": np.nan, "quality_diversity": np.nan, "conditional_accuracy": np.nan}, None),
        ({"quality_copy_odds": 2000, "quality_copy_p": np.nan}, None),
    ],
)
def test_a_mark_begins_at_its_threshold(figures: dict[str, float], mark: str | None) -> None:
    cells = changed("gan", 100, [1], **figures)
    for name in ("collapsed", "copies"):
        assert marked(cells, name) == ([(100, "gan", 1)] if name == mark else [])


def test_filtered_generators_are_marked_and_controls_are_not() -> None:
    faults = {"quality_diversity": 0.1, "quality_copy_odds": 5000.0, "quality_copy_p": 0.0}
    for control in ("affine", "none"):
        assert not marks.marks(changed(control, 100, [0, 1, 2], **faults)).any(axis=None)
    filtered = changed("ddpm-filtered", 600, [2], **faults)
    assert marked(filtered, "collapsed") == marked(filtered, "copies") == [(600, "ddpm-filtered", 2)]
    assert marks.signs(filtered) == {(600, "ddpm-filtered"): " †‡"}


def test_cells_without_figures_of_quality_have_those_marks_alone_that_need_none() -> None:
    cells = changed("gan", 100, [2], conditional_accuracy=0.1)
    old = cells.drop(columns=[name for name in cells if name.startswith(("quality_", "floor_"))])
    assert marked(old, "collapsed") == [(100, "gan", 2)]
    assert not marks.marks(old.drop(columns="conditional_accuracy")).any(axis=None)


def test_the_notes_name_arm_seeds_and_how_many_there_are() -> None:
    cells = changed("gan", 100, [0, 2], quality_coverage=0.1)
    gone = cells[(cells["method"] != "gan") | (cells["n_real"] != 100) | (cells["seed"] != 1)]
    copying = (gone["method"] == "vae") & (gone["seed"] == 1)
    gone.loc[copying, ["quality_copy_odds", "quality_copy_p"]] = [4000.0, 0.0]
    collapsed, copies = marks.notes(gone)
    assert collapsed == (
        "† collapsed: gan at n_real 100, seeds 0, 2 (of 2 seeds; counted in the means). That is: coverage under 0.5 of "
        "real images', diversity of a class under 0.25 or conditional accuracy under 0.5."
    )
    assert copies.startswith(
        "‡ copies: vae at n_real 100, seed 1 (of 3 seeds; counted in the means); "
        "vae at n_real 600, seed 1 (of 3 seeds; counted in the means). That is: "
    )


def test_the_accuracy_table_shows_the_marks_and_its_numbers_stay_as_they_are(tmp_path) -> None:
    sound, cells = measured_cells(), changed("gan", 100, [1], quality_diversity=0.01)
    accuracy_table.write(cells, tmp_path)
    text = (tmp_path / "accuracy_table.md").read_text(encoding="utf-8")
    assert text.count("| gan †") == 1
    assert text.splitlines()[-1].startswith("† collapsed: gan at n_real 100, seed 1 (of 3 seeds; counted in the means)")
    latex = (tmp_path / "accuracy_table.tex").read_text(encoding="utf-8")
    assert latex.count(r"gan $\dagger$") == 1
    assert latex.isascii()
    pd.testing.assert_frame_equal(accuracy_table.accuracy_table(cells), accuracy_table.accuracy_table(sound))
