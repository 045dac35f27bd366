"""Gains by the number of real images: stored tables to the letter, figures by hand and by scipy."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import RIGHT, check_golden, files_of, gains_of, known_cells
from scipy import stats

from analysis import accuracy_table, low_data, pages, runs, statistics, tables
from analysis.runs import Source
from harness.errors import InputError

NAMES = ("low_data_gains", "low_data_iqm")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(low_data.main, known_cells(), tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def gains() -> pd.DataFrame:
    return low_data.gains(known_cells(sweeps=False)).set_index(["n_real", "method"])


# The files


@pytest.mark.parametrize("name", [*(f"{name}.md" for name in NAMES), "low_data_gains.tex"])
def test_the_files_are_those_stored(name: str, written: Path) -> None:
    check_golden(name, written)


def test_every_table_is_there_in_three_forms_and_a_picture(written: Path) -> None:
    expected = {f"{name}.{suffix}" for name in NAMES for suffix in ("md", "csv", "tex")} | {"low_data.png"}
    assert {path.name for path in written.iterdir()} == expected
    assert written.joinpath("low_data.png").read_bytes().startswith(b"\x89PNG")
    assert "ddpm,4,3," in written.joinpath("low_data_iqm.csv").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_latex_has_as_many_cells_in_every_row_as_columns_and_true_signs(name: str, written: Path) -> None:
    text = written.joinpath(f"{name}.tex").read_text()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({len(line.split(" & ")) for line in rows}) == 1
    assert text.count("$") % 2 == 0
    assert text.isascii()
    assert not {"<", ">"} & set("".join("".join(rows).split("$")[::2]))  # outside mathematics these print as ¡ and ¿


def test_a_number_of_images_in_latex() -> None:
    assert tables.latex_number("> 59,000 [< -900, +1,234]") == "$> 59{,}000$ [$< -900$, $+1{,}234$]"


def test_what_is_printed_are_the_tables(written: Path) -> None:
    texts = [written.joinpath(f"{name}.md").read_text(encoding="utf-8") for name in NAMES]
    assert written.with_suffix(".said").read_text(encoding="utf-8") == "\n".join(texts)


# The numbers


def test_a_gain_and_its_interval_are_scipys(gains: pd.DataFrame) -> None:
    row, differences = gains.loc[(100, "affine")], gains_of(100, "affine")
    test = stats.ttest_1samp(differences, 0)
    assert row["gain_points"] == pytest.approx(3.26)
    assert (row["gain_low_points"], row["gain_high_points"]) == pytest.approx(tuple(test.confidence_interval()))
    assert row["accuracy_percent"] == pytest.approx(90.86)
    bootstrap = statistics.bootstrap_interval(differences)
    assert (row["bootstrap_low_points"], row["bootstrap_high_points"]) == pytest.approx(bootstrap[1:])


def test_a_gain_is_worth_the_images_at_which_the_baselines_curve_is_as_good(gains: pd.DataFrame) -> None:
    """Between 100 images with 12.4 % errors and 1,000 with 5 % straight in both logarithms; ddpm has 10.72 %."""
    tenfold = math.log(12.4 / 10.72) / math.log(12.4 / 5.0)
    row = gains.loc[(100, "ddpm")]
    assert row["worth_images"] == pytest.approx(100 * 10**tenfold - 100)
    assert row["worth_low_images"] < row["worth_images"] < row["worth_high_images"]


def test_a_gain_beyond_the_curve_is_worth_more_than_was_measured(gains: pd.DataFrame) -> None:
    assert gains.loc[(10000, "affine"), "worth_images"] == math.inf
    below = known_cells(sweeps=False).query("method in ['none', 'affine', 'gan']")
    below.loc[(below["n_real"] == 1000) & (below["method"] == "gan"), "accuracy"] -= 0.3
    table = low_data.gains(below)
    assert table.set_index(["n_real", "method"]).loc[(1000, "gan"), "worth_images"] == -math.inf
    text = low_data.gains_shown(table, []).markdown()
    assert "< -900 [< -900, < -900]" in text
    above = below.assign(accuracy=below["accuracy"].where(below["method"] != "gan", 0.999 + below["seed"] * 1e-4))
    assert "> 9,900 [> 9,900, > 9,900]" in low_data.gains_shown(low_data.gains(above), []).markdown()


def test_one_size_is_no_learning_curve() -> None:
    cells = known_cells(sweeps=False).query("n_real == 100")
    table = low_data.gains(cells)
    assert table["worth_images"].isna().all()
    assert "needs none's learning curve" in low_data.gain_notes(cells)[1]


def test_the_iqm_is_over_the_seeds_that_an_arm_has_at_every_size() -> None:
    table = low_data.iqms(known_cells(sweeps=False)).set_index("method")
    scores = np.stack([gains_of(n_real, "ddpm")[:4] for n_real in RIGHT], 1)
    assert table.loc["ddpm", "num_seeds"] == 4
    assert table.loc["ddpm", "iqm_points"] == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))
    assert table.loc["affine", ["num_seeds", "num_sizes"]].tolist() == [5, 3]
    assert (table["iqm_low_points"] < table["iqm_points"]).all()
    assert list(table.index) == ["duplicate", "affine", "ddpm", "gan", "gan-filtered"]


def test_an_arm_that_one_size_lacks_has_no_iqm() -> None:
    cells = known_cells(sweeps=False).query("method != 'gan' or n_real != 100")
    row = low_data.iqms(cells).set_index("method").loc["gan"]
    assert row["num_seeds"] == 0
    assert math.isnan(row["iqm_points"])


def test_few_distinct_gains_have_no_bootstrap_interval() -> None:
    """Of five gains with two values a twelfth of the resamples have but one of them, and so no spread at all."""
    assert np.isnan(statistics.bootstrap_interval([0.5, 0.4, 0.5, 0.4, 0.4])[1:]).all()
    found = statistics.bootstrap_interval([0.5, 0.41, 0.52, 0.4, 0.45])
    assert found.low < 0.456 < found.high < 1


@pytest.mark.parametrize(
    ("seeds", "tasks", "supported"), [(3, 1, False), (4, 1, False), (5, 1, True), (3, 3, True), (2, 3, False)]
)
def test_few_seeds_of_few_tasks_have_no_bootstrap_interval(seeds: int, tasks: int, supported: bool) -> None:
    """Resamples of three numbers reach no further than their range, which holds the median three times in four."""
    estimate = statistics.iqm(np.random.default_rng(0).normal(1, 0.3, (tasks, seeds)))
    assert np.isfinite(estimate.low) == np.isfinite(estimate.high) == supported


# What is missing


def test_one_seed_gives_means_and_claims_nothing_else() -> None:
    arms = known_cells(sweeps=False).query("seed == 0")
    gains = low_data.gains(arms)
    low_data.plot(gains)
    ends = ["gain_low_points", "bootstrap_low_points", "accuracy_low_percent", "worth_low_images"]
    assert gains[ends].isna().all(axis=None)
    assert gains["gain_points"].notna().sum() == 15
    assert "[" not in low_data.gains_shown(gains, []).markdown()
    assert "[" not in low_data.iqms_shown(low_data.iqms(arms), []).markdown()


def test_without_a_baseline_the_arms_stay_with_no_pairs(tmp_path: Path) -> None:
    arms = known_cells().query("method != 'none'")
    pages.write(low_data.sections(arms), tmp_path, runs.NO_ARM)
    assert low_data.gains(runs.whole_arms(arms))["num_seeds"].eq(0).all()


def test_sweeps_are_no_arms(gains: pd.DataFrame, written: Path) -> None:
    assert len(written.joinpath("low_data_gains.csv").read_text().splitlines()) == 1 + len(gains)


def test_sizes_at_which_none_stands_alone_are_points_of_its_curve_and_no_tasks() -> None:
    cells = known_cells(sweeps=False)
    curve = cells.query("n_real != 1000 or method == 'none'")
    assert low_data.iqms(curve)["num_sizes"].eq(2).all()
    assert low_data.iqms(curve).set_index("method").loc["ddpm", "num_seeds"] == 4
    assert "over 100, 1,000, 10,000 images" in low_data.gain_notes(curve)[1]
    assert accuracy_table.missing_pairs(curve) == [(10000, "ddpm", 4)]


# Bad input


@pytest.mark.parametrize(
    ("query", "message"),
    [("method == 'none'", "no cell of an arm beside none"), ("variant != ''", "no cell of an arm beside none")],
)
def test_cells_without_arms_are_refused(query: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        pages.write(low_data.sections(known_cells().query(query)), tmp_path, runs.NO_ARM)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read as rows of cells: .*No such file"),
        ("", "cannot be read as rows of cells: No columns"),
        ("run_id,method\na,b\n", "has no column dataset: give a file"),
        ("run_id,method,dataset,n_real,seed,judge,accuracy,variant,num_synthetic\n", "has no row: give a file"),
        ("run_id,method,dataset,n_real,seed,judge,accuracy,variant,num_synthetic\na,b,c,many,0,j,1,,0\n", "many"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused_in_a_line(content: str | None, message: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    if content is not None:
        rows.write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        low_data.main(Source(rows=rows), out=tmp_path)
    assert "\n" not in str(refused.value)


def test_rows_go_only_where_a_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--rows .*file cannot be a folder to write to \(File exists\)"):
        runs.add_rows(known_cells(), tmp_path / "file" / "rows.csv")


def test_rows_and_comparisons_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--rows and --comparison exclude each other"):
        Source(("mnist",), tmp_path / "rows.csv").cells()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out .* cannot be a folder to write to \(File exists\)"):
        pages.show(low_data.sections(known_cells()), tmp_path / "file", runs.NO_ARM)


# The picture


def test_the_picture_has_a_panel_per_generator_with_a_control_for_scale() -> None:
    gains = low_data.gains(known_cells(sweeps=False))
    panels = low_data.plot(gains).axes
    labels = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in panels]
    named = {method for panel in labels for method in panel}
    assert named == set(RIGHT[100]) - {"none"}
    assert all(panel[0] == "affine" for panel in labels[:-1])  # the last has the controls
    for panel, methods in zip(panels, labels, strict=True):
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "symlog")
        assert len(panel.collections) == len(methods)  # bands
        assert [label.get_text() for label in panel.get_xticklabels()] == ["100", "1,000", "10,000"]
        drawn = panel.get_lines()[-1]
        expected = gains[gains["method"] == methods[-1]].sort_values("n_real")
        assert drawn.get_ydata().tolist() == expected["gain_points"].tolist()
