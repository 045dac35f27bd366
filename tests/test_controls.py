"""Generators beside each control: figures by hand and by scipy."""

from pathlib import Path

import numpy as np
import pytest
from known_cells import RIGHT, known_cells
from scipy import stats

from analysis import controls, pages, statistics
from harness.errors import InputError


def test_each_generator_is_paired_with_each_control_by_seed() -> None:
    table = controls.against(known_cells(sweeps=False))
    assert len(table) == 3 * 3 * 2
    row = table.set_index(["n_real", "method", "control"]).loc[(1000, "ddpm", "affine")]
    apart = (np.array(RIGHT[1000]["ddpm"]) - RIGHT[1000]["affine"]) / 10
    test = stats.ttest_1samp(apart, 0)
    assert row["difference_points"] == pytest.approx(apart.mean())
    assert (row["difference_low_points"], row["difference_high_points"]) == pytest.approx(
        tuple(test.confidence_interval())
    )
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["control_run_ids"].split() == [f"affine-whole-1000-{seed}" for seed in range(5)]
    here = table[table["n_real"] == 1000]
    assert here["p_holm"].tolist() == pytest.approx(statistics.holm(here["p"]).tolist())


def test_a_seed_that_one_side_lacks_is_counted_out() -> None:
    table = controls.against(known_cells(sweeps=False)).set_index(["n_real", "method", "control"])
    assert table.loc[(10000, "ddpm", "affine"), "num_seeds"] == 4


def test_a_filtered_control_is_another_control() -> None:
    cells = known_cells(sweeps=False).replace({"method": {"gan-filtered": "affine-filtered"}})
    assert set(controls.against(cells)["control"]) == {"duplicate", "affine", "affine-filtered"}


def test_cells_without_controls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no generator beside a control"):
        pages.write(controls.sections(known_cells().query("method in ['none', 'ddpm']")), tmp_path, controls.MISSING)
