"""Quality and gain of cells whose figures are known, the files exact to the letter."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import GOLDEN, check_golden, files_of, measured_cells
from scipy import stats

from analysis import pages, quality_vs_gain
from analysis.quality_vs_gain import FIGURES, correlation_table, generator_gains, quality_table
from analysis.runs import Source
from harness.errors import InputError


@pytest.fixture
def cells() -> pd.DataFrame:
    return measured_cells()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(quality_vs_gain.main, measured_cells(), tmp_path_factory.mktemp("tables"))


def write(cells: pd.DataFrame, out: Path) -> list[Path]:
    return pages.write(quality_vs_gain.sections(cells), out, quality_vs_gain.MISSING)


def correlations(cells: pd.DataFrame) -> pd.DataFrame:
    table = correlation_table(cells)
    return table.assign(n_real=table["n_real"].fillna(0)).set_index(["figure", "n_real"])  # 0: all


@pytest.mark.parametrize("name", ["quality.md", "quality.csv", "quality.tex", "quality_vs_gain.md",
                                  "quality_vs_gain.csv", "quality_vs_gain.tex"])  # fmt: skip
def test_the_files_are_those_stored(name: str, written: Path) -> None:
    check_golden(name, written)


# Quality


def test_a_row_is_the_mean_of_its_cells_with_students_interval(cells: pd.DataFrame) -> None:
    table = quality_table(cells).set_index(["n_real", "method"])
    row = table.loc[(100, "ddpm")]
    assert row["num_seeds"] == 3
    assert row["quality_fid"] == pytest.approx(2)  # 1.9, 2.0, 2.1
    assert row["quality_fid_high"] == pytest.approx(2 + 4.302653 * 0.1 / math.sqrt(3))
    assert row["quality_precision"] == pytest.approx(0.8)
    assert math.isnan(row["quality_precision_low"])  # it does not vary
    assert math.isnan(table.loc[(100, "ddpm-filtered"), "cas"])


def test_rows_are_the_arms_with_samples_then_real_images(cells: pd.DataFrame) -> None:
    table = quality_table(cells)
    arms = ["affine", "ddpm", "ddpm-filtered", "gan", "vae"]
    assert table["method"].tolist() == [*arms, *arms, "real"]
    assert table["n_real"].isna().tolist() == [False] * 10 + [True]


def test_the_row_of_real_images_has_the_floors_of_each_seed_once_and_the_ceiling_of_cas(cells: pd.DataFrame) -> None:
    more = cells[(cells["seed"] == 2) | (cells["method"] != "gan")]  # more sample sets of seed 2 than of the others
    for own in (cells, more):
        row = quality_table(own).iloc[-1]
        assert row["num_seeds"] == 3
        assert row["quality_fid"] == pytest.approx(1.1)  # 1.0, 1.1, 1.2
        assert row["quality_recall"] == pytest.approx(0.91)
        assert row["cas"] == pytest.approx(0.95)  # none at 600: 0.94, 0.95, 0.96
        assert row["conditional_accuracy"] == pytest.approx(0.991)
        assert math.isnan(row["quality_copy_share"])


def test_a_figure_that_a_cell_lacks_has_no_mean(cells: pd.DataFrame) -> None:
    cells.loc[(cells["method"] == "vae") & (cells["seed"] == 1), "quality_recall"] = math.nan
    assert math.isnan(quality_table(cells).set_index(["n_real", "method"]).loc[(100, "vae"), "quality_recall"])


# Quality and gain


def test_the_pairs_are_those_of_the_generators_filtered_ones_among_them(cells: pd.DataFrame) -> None:
    gains = generator_gains(cells)
    assert set(gains["method"]) == {"ddpm", "ddpm-filtered", "gan", "vae"}
    assert len(gains) == 24
    missing = cells[(cells["method"] != "none") | (cells["seed"] != 0)]
    assert len(generator_gains(missing)) == 16
    assert correlations(missing).loc[("quality_fid", 0), "n"] == 16


def test_plus_is_better_samples_more_gain(cells: pd.DataFrame) -> None:
    """The cells' FID falls and their conditional accuracy rises with the gain; recall falls; precision is constant."""
    table = correlations(cells)["correlation"]
    for figure, expected in {
        "quality_fid": 1,
        "quality_kid": 1,
        "conditional_accuracy": 1,
        "quality_recall": -1,
    }.items():
        for n_real in (100, 600, 0):
            assert table[figure, n_real] == pytest.approx(expected)
    assert table["quality_precision"].isna().all()


def test_a_correlation_is_scipys_over_the_pairs_of_one_n_real(cells: pd.DataFrame) -> None:
    gains = generator_gains(cells)
    own = gains[gains["n_real"] == 100]
    expected = stats.spearmanr(own["quality_density"], own["gain_points"].round(4)).statistic
    row = correlations(cells).loc[("quality_density", 100)]
    assert row["correlation"] == pytest.approx(expected)
    assert row["low"] < expected < row["high"]
    assert row["n"] == 12
    assert correlations(cells).loc[("cas", 100), "n"] == 9  # that of filtered samples is not measured


def test_all_n_real_together_are_compared_within_each(cells: pd.DataFrame) -> None:
    """Where little data brings much gain and bad samples, the figures alone would say that bad samples help."""
    cells["quality_fid"] += np.where(cells["n_real"] == 100, 100, 0)
    gains = generator_gains(cells)
    assert stats.spearmanr(-gains["quality_fid"], gains["gain_points"]).statistic < 0.5
    assert correlations(cells).loc[("quality_fid", 0), "correlation"] == pytest.approx(1)


def test_gains_that_differ_by_rounding_alone_are_equal(cells: pd.DataFrame) -> None:
    noisy = cells.assign(accuracy=cells["accuracy"].astype(np.float32).astype(float))
    pd.testing.assert_frame_equal(correlation_table(noisy), correlation_table(cells))


def test_the_report_has_the_same_tables(cells: pd.DataFrame) -> None:
    sections = list(quality_vs_gain.sections(cells))
    for section, name in zip(sections, ("quality", "quality_vs_gain"), strict=True):
        assert section.tables[name][0].markdown() == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")


# What is not there


def test_one_seed_has_no_intervals_of_quality(tmp_path: Path) -> None:
    single = measured_cells(seeds=(0,), sizes=(100,))
    assert len(write(single, tmp_path)) == 7
    assert "[" not in (tmp_path / "quality.md").read_text(encoding="utf-8").split("Data set")[0]
    assert correlations(single).loc[("quality_density", 100), ["low", "high"]].isna().all()


def test_a_comparison_without_generators_has_a_table_of_quality_and_no_correlation(
    cells: pd.DataFrame, tmp_path: Path
) -> None:
    write(cells[cells["method"].isin(["none", "affine"])], tmp_path)
    text = (tmp_path / "quality_vs_gain.md").read_text(encoding="utf-8")
    assert "over the pairs (arm, seed) of no generator" in text


def test_an_old_comparison_has_the_figures_that_it_has(cells: pd.DataFrame, tmp_path: Path) -> None:
    old = cells.drop(columns=[name for name in cells if name.startswith(("quality_", "floor_"))])
    write(old, tmp_path)
    assert quality_table(old).iloc[-1]["cas"] == pytest.approx(0.95)


def test_cells_without_any_figure_are_refused(cells: pd.DataFrame, tmp_path: Path) -> None:
    none = cells[cells["method"] == "none"].drop(columns=list(FIGURES))
    with pytest.raises(InputError, match="no cell has a figure of its samples' quality") as refused:
        write(none, tmp_path)
    assert list(quality_vs_gain.sections(none)) == []
    assert "\n" not in str(refused.value)


def test_rows_of_a_file_are_read_in_place_of_a_store_and_sweeps_left_out(cells: pd.DataFrame, tmp_path: Path) -> None:
    sweep = cells[cells["method"] == "vae"].assign(variant="2x", accuracy=0.1)
    sweep["run_id"] += "-2x"
    folder = files_of(quality_vs_gain.main, pd.concat([cells, sweep]), tmp_path / "tables")
    golden = [(GOLDEN / f"{name}.md").read_text(encoding="utf-8") for name in ("quality", "quality_vs_gain")]
    assert folder.with_suffix(".said").read_text(encoding="utf-8") == "\n".join(golden)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"nothing\.csv cannot be read as rows of cells"),
        ("run_id,method\n", r"nothing\.csv has no column dataset: give a file that analysis.report --rows wrote"),
        ("run_id,method,dataset,n_real,seed,judge,accuracy\n", "has no column variant"),
    ],
)
def test_a_file_that_has_no_cells_is_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "nothing.csv").write_text(content)
    with pytest.raises(InputError, match=message) as refused:
        quality_vs_gain.main(Source(rows=tmp_path / "nothing.csv"), out=tmp_path / "tables")
    assert "\n" not in str(refused.value)


# The picture


def test_the_picture_has_a_panel_per_figure_and_a_dot_per_pair(cells: pd.DataFrame) -> None:
    figure = quality_vs_gain.plot(quality_vs_gain.accuracy_table.pairs(cells))
    panels = [panel for panel in figure.axes if panel.axison]
    assert [panel.get_xlabel().split(",")[0] for panel in panels] == [
        quality.title.split(",")[0] for quality in FIGURES.values()
    ]
    dots = [sum(len(part.get_offsets()) for part in panel.collections) for panel in panels]
    assert dots == [24 if name != "cas" else 18 for name in FIGURES]
    assert "less is better" in panels[2].get_xlabel()


def test_gains_follow_cas_on_validation_images_where_they_were_measured(cells: pd.DataFrame) -> None:
    """The test images' own chance is in a CAS and in a gain on them."""
    more = cells.assign(validation_cas=1 - cells["cas"])
    assert correlations(cells).loc[("cas", 0), "correlation"] == pytest.approx(1)
    assert correlations(more).loc[("cas", 0), "correlation"] == pytest.approx(-1)
    assert (
        "CAS is that on validation images" in quality_vs_gain.shown_correlations(correlation_table(more), more).notes[0]
    )


def test_the_correlation_between_arms_is_not_that_within_one(cells: pd.DataFrame) -> None:
    """Better arms gain more, and an arm's better seeds gain less."""
    means = cells.groupby(["n_real", "method"])["quality_coverage"].transform("mean")
    turned = cells.assign(quality_coverage=2 * means - cells["quality_coverage"])
    row = correlations(turned).loc[("quality_coverage", 0)]
    assert (row["between"], row["within"]) == pytest.approx((1, -1))


def test_the_copy_share_stands_beside_what_chance_gives(cells: pd.DataFrame) -> None:
    texts = quality_vs_gain.shown_quality(quality_table(cells), cells).rows
    assert [row[-1].split("(")[-1] for row in (texts[0], texts[5])] == ["chance 10)", "chance 40)"]
    assert "chance" not in texts[-1][-1]
