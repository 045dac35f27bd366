"""Tests of the gains: the stored table to the letter, figures by hand and by scipy."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import RIGHT, check_golden, files_of, gains_of, known_cells, with_counts
from scipy import stats

from analysis import runs, significance, statistics
from harness import tracking
from harness.errors import InputError


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return with_counts(known_cells(), tmp_path_factory.mktemp("counts"))


@pytest.fixture(scope="module")
def written(cells: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(significance.main, cells, tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def tests(cells: pd.DataFrame) -> pd.DataFrame:
    return significance.tests(runs.whole_arms(cells)).set_index(["n_real", "method"])


def test_the_table_is_the_one_stored_and_the_one_printed(written: Path) -> None:
    check_golden("significance.md", written)
    assert written.with_suffix(".said").read_text(encoding="utf-8") == (written / "significance.md").read_text()
    assert {path.suffix for path in written.iterdir()} == {".md", ".csv", ".tex"}


def test_one_seed_has_no_test_but_the_uncertainty_of_its_images(cells: pd.DataFrame) -> None:
    tests = significance.tests(runs.whole_arms(cells.query("seed == 0")))
    assert tests[["p", "p_holm", "improvement_low", "detectable_points", "crossed_low_points"]].isna().all(axis=None)
    assert tests["images_points"].notna().all()


def test_cells_without_arms_have_no_part() -> None:
    assert list(significance.sections(known_cells().query("method == 'none'"))) == []


@pytest.mark.parametrize("arm", ["affine", "gan"])
def test_the_interval_over_images_contains_that_of_seeds(tests: pd.DataFrame, arm: str) -> None:
    row = tests.loc[(100, arm)]
    test = stats.ttest_1samp(gains_of(100, arm), 0)
    assert row["crossed_points"] == pytest.approx(row["gain_points"]) == pytest.approx(gains_of(100, arm).mean())
    seeds = row["gain_high_points"] - row["gain_points"]
    assert row["gain_high_points"] == pytest.approx(test.confidence_interval().high)
    assert row["crossed_high_points"] - row["gain_points"] == pytest.approx(math.hypot(seeds, row["images_points"]))
    assert row["images_points"] > 0.1


def test_initialisations_are_one_seeds_share(tmp_path: Path) -> None:
    """Of three classifiers a cell an image counts by how many of them got it right."""
    three = known_cells(sweeps=False).query("n_real == 100 and method in ['none', 'ddpm']").assign(initialisations=3)
    with_counts(three, tmp_path)
    with np.load(tmp_path / "right.npz") as arrays:
        twice = {name: 2 * arrays[name] for name in arrays.files}
    np.savez(tmp_path / "right.npz", **twice)
    one = three.assign(initialisations=1, right_in=str(tmp_path / "right.npz"))
    (row,) = significance.tests(one.assign(initialisations=3)).to_dict("records")
    assert row["crossed_points"] == pytest.approx(gains_of(100, "ddpm").mean() * 2 / 3)
    with pytest.raises(
        InputError, match=r"cell none-whole-100-0: right.npz does not say how many of its 1 classifiers"
    ):
        significance.tests(one)


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


def test_cells_that_do_not_say_what_they_got_right_are_counted_out_and_said(cells: pd.DataFrame) -> None:
    cells = runs.whole_arms(cells)
    silent = (cells["method"] == "affine") | ((cells["method"] == "gan") & (cells["seed"] < 2))
    cells.loc[silent, "right_in"] = None
    tests = significance.tests(cells.query("n_real == 100")).set_index(["n_real", "method"])
    assert tests.loc[(100, "gan"), "num_tested"] == 3
    assert math.isnan(tests.loc[(100, "affine"), "crossed_points"])
    assert significance.notes(cells)[-1].startswith("21 of 89 cells do not say")
    texts = significance.shown(tests.reset_index(), []).rows
    assert texts[1][6:8] == ["-", "-"]
    assert texts[3][6].endswith("(3 seeds)")


def test_the_test_sets_own_uncertainty_is_said(cells: pd.DataFrame) -> None:
    accuracy = np.mean(RIGHT[10000]["none"]) / 1000
    own = 196 * math.sqrt(accuracy * (1 - accuracy) / 1000)
    assert f"{own:.2g} at n_real 10000 points" in significance.notes(runs.whole_arms(cells))[1]


def test_a_file_that_holds_no_answers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "right.npz").write_bytes(b"none")
    cells = known_cells(sweeps=False).assign(right_in=str(tmp_path / "right.npz"))
    with pytest.raises(InputError, match=r"right.npz cannot be read as the test images that each run got right"):
        significance.tests(cells)


def test_rows_keep_what_each_run_got_right_in_one_file_beside_them(cells: pd.DataFrame, tmp_path: Path) -> None:
    for part in (cells.query("n_real == 100"), cells.query("n_real == 1000")):
        every = runs.add_rows(part, tmp_path / "rows.csv")
    assert "right_in" not in (tmp_path / "rows.csv").read_text()
    right = runs.right_counts(every)
    assert set(right) == set(every["run_id"])
    assert [right[run_id].mean() for run_id in every["run_id"]] == pytest.approx(every["accuracy"].tolist())


@pytest.mark.usefixtures("agent")
def test_a_stores_runs_say_what_they_got_right(store: str, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "right.npz", right=np.array([1, 0, 1], dtype=np.uint8))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "right.npz").write_bytes(b"none")
    ids = []
    for path in (tmp_path / "right.npz", None, tmp_path / "broken" / "right.npz"):
        with tracking.run("classifiers", "one", tags={}, params={}, tracking_uri=store) as run:
            if path:
                run.file(path)
        ids.append(run.id)
    known = pd.DataFrame({"run_id": ids[:2], "right_in": store})
    assert {run_id: own.tolist() for run_id, own in runs.right_counts(known).items()} == {ids[0]: [1, 0, 1]}
    with pytest.raises(InputError, match=f"artifact right.npz of run {ids[2]} holds no arrays"):
        tracking.read_arrays(ids, "right.npz", store)
    with pytest.raises(InputError, match="no run 'ffff'"):
        tracking.read_arrays(["ffff"], "right.npz", store)
