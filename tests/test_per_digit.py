"""Gain in recall per class of cells whose figures are known, the files exact to the letter."""

import math
from pathlib import Path

import pandas as pd
import pytest
from known_cells import GOLDEN, check_golden, files_of, measured_cells

from analysis import pages, per_digit
from harness.errors import InputError


@pytest.fixture
def cells() -> pd.DataFrame:
    return measured_cells()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(per_digit.main, measured_cells(), tmp_path_factory.mktemp("tables"))


def by_class(cells: pd.DataFrame) -> pd.DataFrame:
    return per_digit.per_class(per_digit.gains(cells)).set_index(["n_real", "method", "class"])


@pytest.mark.parametrize("name", ["per_digit.md", "per_digit.csv", "per_digit.tex"])
def test_the_files_are_those_stored(name: str, written: Path) -> None:
    check_golden(name, written)


def test_a_gain_is_the_mean_of_its_pairs_with_students_interval(cells: pd.DataFrame) -> None:
    """Gains of the ddpm at 100: 2.9, 3.0, 3.1 points, and twice that in class 2."""
    table = by_class(cells)
    for label, times in ((0, 1), (2, 2)):
        row = table.loc[(100, "ddpm", label)]
        reach = times * 4.302653 * 0.1 / math.sqrt(3)
        ends = (3 * times, 3 * times - reach, 3 * times + reach)
        assert tuple(row[["gain_points", "gain_low_points", "gain_high_points"]]) == pytest.approx(ends)
        assert row["num_seeds"] == 3
    assert table.loc[(100, "ddpm", 0), "baseline_percent"] == pytest.approx(87)  # 0.85 … 0.87, and 0.01
    assert table.loc[(100, "ddpm", 2), "conditional_accuracy_percent"] == pytest.approx(83)
    assert math.isnan(table.loc[(100, "ddpm", 0), "conditional_accuracy_percent"])


def test_a_seed_without_partner_is_not_counted(cells: pd.DataFrame) -> None:
    lacking = cells[(cells["method"] != "none") | (cells["seed"] != 2) | (cells["n_real"] != 100)]
    table = by_class(lacking)
    assert table.loc[(100, "ddpm", 0), "num_seeds"] == 2
    assert table.loc[(100, "ddpm", 0), "gain_points"] == pytest.approx(2.95)
    assert table.loc[(600, "ddpm", 0), "num_seeds"] == 3


def test_one_seed_has_no_intervals(tmp_path: Path) -> None:
    single = measured_cells(seeds=(1,))
    pages.write(per_digit.sections(single), tmp_path, per_digit.MISSING)
    assert "[" not in (tmp_path / "per_digit.md").read_text(encoding="utf-8")
    assert by_class(single)["gain_low_points"].isna().all()


def test_classes_stand_in_the_order_of_numbers(cells: pd.DataFrame) -> None:
    renamed = cells.rename(columns={"recall_class_1": "recall_class_10"})
    assert per_digit.shown(per_digit.per_class(per_digit.gains(renamed)), renamed).headings[3:] == ("0", "2", "10")


def test_classes_are_called_by_their_names_where_the_runs_say_them(cells: pd.DataFrame) -> None:
    named = cells.assign(classes="ant, bee, cat")
    table = per_digit.per_class(per_digit.gains(named))
    assert per_digit.shown(table, named).headings[3:] == ("ant", "bee", "cat")
    labels = per_digit.plot(table, named).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["ant", "bee", "cat"]
    cut = cells.assign(classes="ant, b…")
    assert per_digit.shown(table, cut).headings[3:] == ("0", "1", "2")


def test_a_mark_stands_behind_its_arm(cells: pd.DataFrame) -> None:
    cells.loc[(cells["method"] == "gan") & (cells["n_real"] == 600), "conditional_accuracy"] = 0.1
    text = per_digit.shown(per_digit.per_class(per_digit.gains(cells)), cells).markdown()
    assert text.count("| gan †") == 1
    assert "† collapsed: gan at n_real 600, seeds 0, 1, 2" in text


def test_the_heat_map_has_a_panel_per_n_real_and_the_gains_as_its_cells(cells: pd.DataFrame) -> None:
    figure = per_digit.plot(per_digit.per_class(per_digit.gains(cells)), cells)
    maps = [panel for panel in figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in maps] == ["100 real images", "600 real images"]
    assert [label.get_text() for label in maps[0].get_yticklabels()] == [
        "affine",
        "ddpm",
        "ddpm-filtered",
        "gan",
        "vae",
    ]
    assert [text.get_text() for text in maps[0].texts[:3]] == ["+4.00", "+4.00", "+8.00"]


@pytest.mark.parametrize("which", ["no recalls", "no partner", "no arm"])
def test_cells_that_say_nothing_of_classes_are_refused_and_no_part_of_a_report(
    which: str, cells: pd.DataFrame, tmp_path: Path
) -> None:
    changed = {
        "no recalls": cells.drop(columns=[name for name in cells if name.startswith("recall_class")]),
        "no partner": cells[cells["method"] != "none"],
        "no arm": cells[cells["method"] == "none"],
    }[which]
    with pytest.raises(InputError, match="no arm has recalls per class") as refused:
        pages.write(per_digit.sections(changed), tmp_path, per_digit.MISSING)
    assert "\n" not in str(refused.value)
    assert list(per_digit.sections(changed)) == []


def test_the_report_has_the_same_table(cells: pd.DataFrame) -> None:
    (section,) = per_digit.sections(cells)
    assert section.tables["per_digit"][0].markdown() == (GOLDEN / "per_digit.md").read_text(encoding="utf-8")


def test_what_is_printed_is_the_table(written: Path) -> None:
    said = written.with_suffix(".said").read_text(encoding="utf-8")
    assert said == (GOLDEN / "per_digit.md").read_text(encoding="utf-8")
