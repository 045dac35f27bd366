"""The rare classes' table: figures by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from known_cells import measured_cells
from scipy import stats

from analysis import long_tail, pages
from harness.errors import InputError


def test_gains_of_the_rare_are_paired_with_none() -> None:
    cells = measured_cells(seeds=(0, 1, 2, 3), sizes=(100,))
    cells["recall_rare"] = cells["recall"] - 0.2 + 0.01 * cells["seed"] * (cells["method"] == "affine")
    (section,) = long_tail.sections(cells.assign(setting=""))
    table = section.tables["long_tail"][1].set_index("method")
    values = {name: own.sort_values("seed")["recall_rare"].to_numpy() for name, own in cells.groupby("method")}
    gains = 100 * (values["affine"] - values["none"])
    row = table.loc["affine"]
    assert row["rare_gain_points"] == pytest.approx(gains.mean())
    ends = tuple(stats.ttest_1samp(gains, 0).confidence_interval())
    assert (row["rare_gain_low_points"], row["rare_gain_high_points"]) == pytest.approx(ends)
    assert row["p"] == pytest.approx(stats.ttest_rel(values["affine"], values["none"]).pvalue)
    assert row["rare_percent"] == pytest.approx(100 * values["affine"].mean())
    recall = cells.groupby("method")["recall"].apply(np.asarray)
    assert row["balanced_gain_points"] == pytest.approx(100 * (recall["affine"] - recall["none"]).mean())
    assert math.isnan(table.loc["none", "rare_gain_points"])
    assert "duplicate-levelled is oversampling" in section.tables["long_tail"][0].markdown()


def test_balanced_classes_have_no_such_table(tmp_path) -> None:
    cells = measured_cells().assign(recall_rare=math.nan)
    with pytest.raises(InputError, match="no cell of a long tail"):
        pages.write(long_tail.sections(cells.assign(setting="")), tmp_path, long_tail.MISSING)


def test_class_weights_are_a_remedy_beside_others() -> None:
    """Of the same setting but for them."""
    cells = measured_cells(seeds=(0, 1, 2, 3), sizes=(100,)).assign(setting="augment=True")
    cells["recall_rare"] = cells["recall"] - 0.2 + 0.01 * cells["seed"] * (cells["method"] == "ddpm")
    weights = cells.assign(setting="augment=True,class_weights=True", recall_rare=cells["recall_rare"] ** 2)
    first, second = long_tail.sections(pd.concat([cells, weights], ignore_index=True))
    assert (first.setting, second.setting) == ("augment=True", "augment=True,class_weights=True")
    numbers = first.tables["long_tail_augment-True"][1].set_index("method")
    none, ddpm = (cells.loc[cells["method"] == name, "recall_rare"].to_numpy() for name in ("none", "ddpm"))
    assert numbers.loc["class-weights", "rare_gain_points"] == pytest.approx(100 * (none**2 - none).mean())
    beside = first.tables["long_tail_controls_augment-True"][1].set_index(["method", "control"])
    assert beside.loc[("ddpm", "class-weights"), "difference_points"] == pytest.approx(100 * (ddpm - none**2).mean())
    assert "class-weights" not in second.tables["long_tail_augment-True_class_weights-True"][1]["method"].tolist()
