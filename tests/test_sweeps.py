"""Sweeps of amount and share: stored tables to the letter, figures by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import RIGHT, SWEEP, check_golden, files_of, known_cells
from scipy import stats

from analysis import pages, sweeps
from harness.errors import InputError

KNOWN = ("amount", "share")
"""The sweeps of the known cells."""


@pytest.fixture(scope="module")
def placed() -> pd.DataFrame:
    return sweeps.placed(known_cells())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files_of(sweeps.main, known_cells(), tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize("name", ["sweep_amount.md", "sweep_amount.csv", "sweep_share.md"])
def test_the_files_are_those_stored(name: str, written: Path) -> None:
    check_golden(name, written)


def test_both_sweeps_are_there_in_three_forms_and_one_picture(written: Path) -> None:
    tables = {f"sweep_{sweep}.{suffix}" for sweep in KNOWN for suffix in ("md", "csv", "tex")}
    assert {path.name for path in written.iterdir()} == tables | {"sweeps.png"}


def test_what_is_printed_are_the_tables(written: Path) -> None:
    texts = [written.joinpath(f"sweep_{sweep}.md").read_text(encoding="utf-8") for sweep in KNOWN]
    assert written.with_suffix(".said").read_text(encoding="utf-8") == "\n".join(texts)


def test_amounts_go_from_none_over_the_variants_to_the_whole_set(placed: pd.DataFrame) -> None:
    own = sweeps.points(placed, "amount").query("n_real == 100 and method == 'ddpm'")
    assert own["amount"].tolist() == [0, 0.5, 1, 2, 20]
    assert own["whole"].tolist() == [False, False, False, False, True]
    gains = (np.array(RIGHT[100]["ddpm"]) - RIGHT[100]["none"]) / 10
    shown = own.iloc[1]
    assert shown["gain_points"] == pytest.approx(gains.mean() + SWEEP["0.5x"] / 10)
    interval = stats.ttest_1samp(gains + SWEEP["0.5x"] / 10, 0).confidence_interval()
    assert (shown["gain_low_points"], shown["gain_high_points"]) == pytest.approx(tuple(interval))
    assert own.iloc[0]["gain_points"] == 0
    assert np.isnan(own.iloc[0]["gain_low_points"])
    assert own.iloc[4]["gain_points"] == pytest.approx(gains.mean())


def test_shares_have_no_whole_set_for_it_says_no_share(placed: pd.DataFrame) -> None:
    table = sweeps.points(placed, "share")
    assert table.query("n_real == 1000 and method == 'gan'")["share"].tolist() == [0, 0.25, 0.75]
    assert not table["whole"].any()


def test_only_what_was_swept_is_there(placed: pd.DataFrame) -> None:
    for sweep in KNOWN:
        table = sweeps.points(placed, sweep)
        assert set(zip(table["n_real"], table["method"], strict=True)) == {
            (n_real, method) for n_real in (100, 1000) for method in ("ddpm", "gan")
        }


def test_a_variant_is_read_as_the_comparison_writes_it() -> None:
    cells = known_cells().assign(variant=lambda cells: cells["variant"].replace({"2x": "1.5e+06x"}))
    assert 1.5e6 in set(sweeps.placed(cells)["amount"])
    cells = cells.assign(variant=cells["variant"].replace({"share=0.25": "share=1e-05"}))
    assert 1e-5 in set(sweeps.placed(cells)["share"])


def test_a_sweep_of_one_kind_is_one_table(tmp_path: Path) -> None:
    cells = known_cells().query("not variant.str.startswith('share')")
    assert {path.name for path in pages.write(sweeps.sections(cells), tmp_path, sweeps.MISSING)} == {
        "sweep_amount.md", "sweep_amount.csv", "sweep_amount.tex", "sweeps.png",
    }  # fmt: skip


def test_missing_seeds_are_counted_out_and_named() -> None:
    cells = known_cells()
    lacking = ["ddpm-2x-100-3", "none-whole-1000-1", "gan-share=0.25-100-0", "gan-share=0.25-100-4"]
    placed = sweeps.placed(cells[~cells["run_id"].isin(lacking)])
    table = sweeps.points(placed, "amount").set_index(["n_real", "method", "amount"])
    assert table.loc[(100, "ddpm", 2), "num_seeds"] == 4
    assert table.loc[1000, "num_seeds"].eq(4).all()
    assert sweeps.notes(placed, "amount")[-1] == (
        "No finished cell, so its pairs are not counted in n: n_real 100, ddpm 2x, seed 3; n_real 1000, none, seed 1."
    )
    assert "gan share=0.25, seeds 0, 4;" in sweeps.notes(placed, "share")[-1]


def test_without_a_baseline_nothing_is_paired_and_that_is_said() -> None:
    placed = sweeps.placed(known_cells().query("method != 'none'"))
    table = sweeps.points(placed, "share")
    assert table["num_seeds"].eq(0).all()
    sweeps.plot({"share": table})
    assert sweeps.missing(placed, "share") == ["n_real 100, none", "n_real 1000, none"]


def test_one_seed_gives_no_interval() -> None:
    cells = known_cells().query("seed == 0")
    table = sweeps.points(sweeps.placed(cells), "amount")
    assert table["gain_low_points"].isna().all()
    assert "[" not in sweeps.shown(table, "amount", []).markdown()
    sweeps.plot({"amount": table})


def test_cells_of_no_sweep_are_refused_with_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cell of a sweep: experiments/compare.py --amounts 0.5 1 2 --shares"):
        pages.write(sweeps.sections(known_cells(sweeps=False)), tmp_path, sweeps.MISSING)
    assert list(tmp_path.iterdir()) == []


def test_the_picture_has_a_row_per_sweep_and_a_panel_per_n_real(placed: pd.DataFrame) -> None:
    figure = sweeps.plot({sweep: sweeps.points(placed, sweep) for sweep in KNOWN})
    assert [panel.get_title() for panel in figure.axes] == 2 * ["100 real images", "1,000 real images"]
    assert [panel.get_xlabel() for panel in figure.axes[::2]] == [sweeps.LABELS[sweep] for sweep in KNOWN]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["ddpm", "gan"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "0.5", "1", "2", "20"]


def test_weights_end_and_batches_begin_with_the_whole_arm(tmp_path: Path) -> None:
    named = {"0.5x": "weight=0.3", "1x": "batch=replaced", "2x": "batch=enlarged"}
    placed = sweeps.placed(known_cells().replace({"variant": named}))
    weights = sweeps.points(placed, "weight").query("n_real == 100 and method == 'ddpm'")
    assert weights["weight"].tolist() == [0, 0.3, 1]
    assert weights["whole"].tolist() == [False, False, True]
    batches = sweeps.points(placed, "batch").query("n_real == 100 and method == 'ddpm'")
    assert [row[2] for row in sweeps.shown(batches, "batch", []).rows] == ["none", "shared", "enlarged", "replaced"]
    gains = batches["gain_points"] - batches["gain_points"].iloc[1]
    assert gains.tolist()[1:] == pytest.approx([0, SWEEP["2x"] / 10, SWEEP["1x"] / 10])
    figure = sweeps.plot({"batch": sweeps.points(placed, "batch")})
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(sweeps.BATCHES)
    cells = known_cells().replace({"variant": named})
    pages.write(sweeps.sections(cells), tmp_path, "")
    assert pd.read_csv(tmp_path / "sweep_batch.csv")["batch"].tolist()[:4] == list(sweeps.BATCHES)
    assert {path.stem for path in pages.write(sweeps.sections(cells), tmp_path, "")} == {
        "sweep_weight", "sweep_batch", "sweep_share", "sweeps",
    }  # fmt: skip
