"""Tests of the gains: the stored table to the letter, figures by hand and by scipy."""

import math
from pathlib import Path

import pandas as pd
import pytest
from known_cells import LOST, RIGHT, check_golden, files_of, gains_of, known_cells
from scipy import stats

from analysis import significance, statistics
from harness.errors import InputError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(significance.main, known_cells(), tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def tests() -> pd.DataFrame:
    return significance.tests(known_cells(sweeps=False)).set_index(["n_real", "method"])


def test_the_table_is_the_one_stored_and_the_one_printed(written: Path) -> None:
    check_golden("significance.md", written)
    assert written.with_suffix(".said").read_text(encoding="utf-8") == (written / "significance.md").read_text()
    assert {path.suffix for path in written.iterdir()} == {".md", ".csv", ".tex"}


def test_one_seed_has_no_test_but_mcnemars() -> None:
    tests = significance.tests(known_cells(sweeps=False).query("seed == 0"))
    assert tests[["p", "p_holm", "improvement_low", "detectable_points"]].isna().all(axis=None)
    assert tests["p_mcnemar"].notna().all()  # of two classifiers it can speak


def test_cells_without_arms_have_no_part() -> None:
    assert list(significance.sections(known_cells().query("method == 'none'"))) == []


@pytest.mark.parametrize("arm", ["affine", "gan"])
def test_mcnemar_counts_the_images_of_all_seeds(tests: pd.DataFrame, arm: str) -> None:
    row = tests.loc[(100, arm)]
    lost = 5 * LOST[arm]
    won = lost + round(10 * gains_of(100, arm).sum())
    assert (row["won_images"], row["lost_images"], row["num_tested"]) == (won, lost, 5)
    assert row["p_mcnemar"] == pytest.approx(stats.binomtest(won, won + lost).pvalue)


def test_a_seed_is_better_or_worse_where_its_own_test_is_below_five_percent(tests: pd.DataFrame) -> None:
    lost = LOST["gan"]
    won = lost + 10 * gains_of(10000, "gan")
    p = [stats.binomtest(round(each), round(each) + lost).pvalue for each in won]
    assert [each < 0.05 for each in p] == [False, True, False, False, False]
    counts = tests[["num_better", "num_worse"]]
    assert counts.loc[(10000, "gan")].tolist() == [0, 1]
    assert counts.loc[(100, "affine")].tolist() == [5, 0]


def test_improvement_is_the_share_of_pairs_of_runs_that_are_won(tests: pd.DataFrame) -> None:
    u = stats.mannwhitneyu(RIGHT[1000]["ddpm"], RIGHT[1000]["none"]).statistic
    assert tests.loc[(1000, "ddpm"), "improvement"] == pytest.approx(u / 25)


def test_the_detectable_gain_has_a_power_of_eighty_percent(tests: pd.DataFrame) -> None:
    differences = gains_of(100, "ddpm")
    shift = tests.loc[(100, "ddpm"), "detectable_points"] / stats.sem(differences)
    critical = stats.t.ppf(0.975, 4)
    power = stats.nct.sf(critical, 4, shift) + stats.nct.cdf(-critical, 4, shift)
    assert power == pytest.approx(0.8, abs=1e-4)


def test_holm_is_over_the_arms_of_one_n_real(tests: pd.DataFrame) -> None:
    here = tests.loc[1000]
    assert here["p_holm"].tolist() == pytest.approx(statistics.holm(here["p"]).tolist())
    assert here.loc["affine", "p"] == pytest.approx(stats.ttest_1samp(gains_of(1000, "affine"), 0).pvalue)


def test_runs_that_always_win_have_no_interval_of_improvement(tests: pd.DataFrame) -> None:
    row = tests.loc[(100, "affine")]
    assert row["improvement"] == 1
    assert math.isnan(row["improvement_low"])


def test_cells_that_do_not_say_what_they_got_right_are_counted_out_and_said() -> None:
    cells = known_cells(sweeps=False)
    cells.loc[(cells["method"] == "gan") & (cells["seed"] < 2), "right"] = None
    cells.loc[cells["method"] == "affine", "right"] = None
    tests = significance.tests(cells.query("n_real == 100")).set_index(["n_real", "method"])
    assert tests.loc[(100, "gan"), "num_tested"] == 3
    assert math.isnan(tests.loc[(100, "affine"), "p_mcnemar"])
    assert significance.notes(cells)[-1].startswith("21 of 89 cells do not say")
    texts = significance.shown(tests.reset_index(), []).rows
    assert texts[1][5:8] == ["-", "-", "-"]


def test_answers_that_are_none_are_refused() -> None:
    cells = known_cells(sweeps=False)
    cells.loc[0, "right"] = "1000:broken"
    with pytest.raises(InputError, match="cell none-whole-100-0 does not say which test images it got right"):
        significance.tests(cells)
