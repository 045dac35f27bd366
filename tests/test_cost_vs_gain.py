"""Cost against gain: stored tables to the letter, fronts and recommendations by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import RIGHT, check_golden, files_of, known_cells
from scipy import stats

from analysis import cost_vs_gain
from analysis.runs import Source
from harness.errors import InputError

BUDGETS = (60, 600, 3600)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(cost_vs_gain.main, known_cells(), tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return cost_vs_gain.costs(known_cells(sweeps=False))


NAMES = ["cost_vs_gain.md", "cost_vs_gain.csv", "recommendations.md", "recommendations.csv", "recommendations.tex"]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_stored(name: str, written: Path) -> None:
    check_golden(name, written)


def test_what_is_printed_are_the_tables(written: Path) -> None:
    names = ("cost_vs_gain.md", "recommendations.md")
    texts = [written.joinpath(name).read_text(encoding="utf-8") for name in names]
    assert written.with_suffix(".said").read_text(encoding="utf-8") == "\n".join(texts)
    assert written.joinpath("cost_vs_gain.png").read_bytes().startswith(b"\x89PNG")


# The numbers


def test_a_cost_is_training_sampling_and_filter_and_nothing_for_controls(table: pd.DataFrame) -> None:
    cost = table.set_index(["n_real", "method"])["cost_s"]
    assert cost[100, "ddpm"] == pytest.approx(300 + 2 + 40)  # the seeds' mean is 2
    assert cost[1000, "gan"] == pytest.approx(2 * 120 + 2 + 2)
    assert cost[1000, "gan-filtered"] == pytest.approx(2 * 120 + 2 + 2 + 15)
    assert cost[10000, "ddpm"] == pytest.approx(4 * 300 + 1.5 + 40)  # of the four seeds that it has
    assert cost[100][["none", "duplicate", "affine"]].eq(0).all()
    assert table["classifier_s"].eq(14).all()


def test_a_cost_that_a_cell_does_not_say_is_unknown_and_said() -> None:
    cells = known_cells(sweeps=False)
    cells.loc[cells["run_id"] == "ddpm-whole-100-2", "generator_training_s"] = math.nan
    cells.loc[cells["run_id"] == "gan-filtered-whole-1000-1", "filter_s"] = math.nan
    table = cost_vs_gain.costs(cells)
    unknown = table[table["cost_s"].isna()]
    assert unknown[["n_real", "method"]].to_numpy().tolist() == [[100, "ddpm"], [1000, "gan-filtered"]]
    assert not unknown[["on_front", "on_front_of_generators"]].any(axis=None)
    assert cost_vs_gain.choice_notes(cells, table)[-1] == (
        "Left out, for their cells do not say what they cost: n_real 100, ddpm; n_real 1000, gan-filtered."
    )
    chosen = cost_vs_gain.recommendations(table, [1e6]).set_index("n_real")
    assert chosen["generator"].tolist() == ["gan-filtered", "ddpm", "none"]


@pytest.mark.parametrize(
    ("costs", "gains", "expected"),
    [
        ([0, 10, 100], [1, 2, 3], [True, True, True]),
        ([0, 10, 100], [2, 2, 3], [True, False, True]),
        ([10, 10, 100], [1, 2, 2], [False, True, False]),
        ([10, 10], [1, 1], [True, True]),
        ([0, 10], [-1, 0], [False, False]),
        ([10, math.nan, 20, 30], [1, 5, math.nan, 2], [True, False, False, True]),
    ],
)
def test_the_front(costs: list[float], gains: list[float], expected: list[bool]) -> None:
    assert cost_vs_gain.front(np.array(costs, float), np.array(gains, float)).tolist() == expected


def test_controls_take_the_front_where_they_gain_more_at_no_cost(table: pd.DataFrame) -> None:
    here = table[table["n_real"] == 1000].set_index("method")
    assert here.index[here["on_front"]].tolist() == ["affine"]
    assert here.index[here["on_front_of_generators"]].tolist() == ["ddpm", "gan-filtered"]
    assert not table[table["n_real"] == 10000]["on_front_of_generators"].any()  # no generator gains anything there


def test_recommended_is_the_highest_gain_within_the_budget_that_is_above_zero(table: pd.DataFrame) -> None:
    chosen = cost_vs_gain.recommendations(table, (600, 60, 600, 3600)).set_index(["n_real", "budget_s"])
    assert len(chosen) == 9
    assert chosen["arm"].eq("affine").all()
    assert chosen.loc[100, "generator"].tolist() == ["none", "ddpm", "ddpm"]
    assert chosen.loc[1000, "generator"].tolist() == [
        "none",
        "gan-filtered",
        "ddpm",
    ]  # gan costs less, and gains nothing
    assert chosen.loc[10000, "generator"].eq("none").all()
    assert chosen.loc[(1000, 600), "generator_cost_s"] == pytest.approx(259)
    assert math.isnan(chosen.loc[(1000, 60), "generator_gain_points"])


def test_an_arm_whose_interval_holds_zero_is_not_recommended(table: pd.DataFrame) -> None:
    wide = table.assign(gain_low_points=table["gain_low_points"].where(table["method"] != "affine", -0.1))
    assert cost_vs_gain.recommendations(wide, [60])["arm"].tolist() == ["none", "none", "none"]


def test_a_generator_that_a_control_beats_is_named_with_the_difference(table: pd.DataFrame) -> None:
    cells = known_cells(sweeps=False)
    beaten = cost_vs_gain.beaten(cells, table).set_index(["n_real", "method"])
    assert beaten["control"].eq("affine").all()
    by = (np.array(RIGHT[10000]["affine"][:4]) - RIGHT[10000]["ddpm"]) / 10
    row = beaten.loc[(10000, "ddpm")]
    assert row["num_seeds"] == 4
    assert row["mean"] == pytest.approx(by.mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(stats.ttest_1samp(by, 0).confidence_interval()))
    assert any("n_real 100: the control affine gains more" in note for note in cost_vs_gain.choice_notes(cells, table))


def test_a_generator_that_beats_all_controls_is_not_named() -> None:
    cells = known_cells(sweeps=False).query("method != 'affine'")
    beaten = cost_vs_gain.beaten(cells, cost_vs_gain.costs(cells))
    assert "ddpm" not in beaten.query("n_real == 100")["method"].tolist()


# The words


def test_where_the_seconds_come_from_is_said() -> None:
    cells = known_cells(sweeps=False)
    words = cost_vs_gain.machines(cells)
    assert words.startswith("Cells by the machine that trained their classifier: lab-1 (x86_64, 2 cores): 60; lab-2")
    assert "not the same unit" in words
    one = cost_vs_gain.machines(cells.assign(host=math.nan, device=math.nan))
    assert "unknown (unknown): 89." in one
    assert "not the same unit" not in one


def test_one_seed_recommends_nothing_and_says_why() -> None:
    cells = known_cells(sweeps=False).query("seed == 0")
    table = cost_vs_gain.costs(cells)
    chosen = cost_vs_gain.recommendations(table, BUDGETS)
    assert chosen[["arm", "generator"]].eq("none").all(axis=None)
    assert cost_vs_gain.choice_notes(cells, table)[-1].startswith("No gain has an interval at n_real 100, 1000, 10000")
    assert "[" not in cost_vs_gain.shown(table, []).markdown()
    cost_vs_gain.plot(table)


def test_missing_seeds_are_named(written: Path) -> None:
    text = written.joinpath("cost_vs_gain.md").read_text(encoding="utf-8")
    assert "not counted in n: n_real 10000, ddpm, seed 4." in text


def test_without_a_baseline_nothing_is_paired() -> None:
    table = cost_vs_gain.costs(known_cells(sweeps=False).query("method != 'none'"))
    assert table["gain_points"].isna().all()
    assert cost_vs_gain.recommendations(table, BUDGETS)["arm"].eq("none").all()
    cost_vs_gain.plot(table)


def test_no_budgets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--budgets needs device-seconds"):
        cost_vs_gain.main(Source(rows=tmp_path / "never-read.csv"), out=tmp_path, budgets=())


def test_cells_without_arms_have_no_part() -> None:
    assert list(cost_vs_gain.sections(known_cells().query("method == 'none'"))) == []


# The picture


def test_the_picture_has_a_panel_per_n_real_and_draws_the_fronts(table: pd.DataFrame) -> None:
    figure = cost_vs_gain.plot(table)
    assert [panel.get_title() for panel in figure.axes] == [
        "100 real images",
        "1,000 real images",
        "10,000 real images",
    ]
    assert figure.axes[2].get_xscale() == "symlog"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(names) == {"duplicate", "affine", "ddpm", "gan", "gan-filtered", "front", "front of generators"}
    assert figure.axes[0].get_ylabel().endswith("[points]")
