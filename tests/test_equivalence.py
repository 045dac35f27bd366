"""What synthetic images are worth: a stored table to the letter, the formula against points that follow it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_cells import check_golden, files_of, known_cells

from analysis import equivalence, low_data, pages
from harness.errors import InputError

C1, C2 = 0.7, 3.0


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return equivalence.worths(known_cells())


def test_the_files_are_those_stored(tmp_path: Path) -> None:
    written = files_of(equivalence.main, known_cells(), tmp_path / "tables")
    for name in ("worth.md", "worth_formula.md"):
        check_golden(name, written)
    suffixes = ("md", "csv", "tex")
    tables = {f"{name}.{suffix}" for name in ("worth", "worth_formula") for suffix in suffixes}
    assert {path.name for path in written.iterdir()} == tables | {"worth.png"}


def points(n_real: list[int], amount: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real images, synthetic ones, and the worths at which the published equation holds."""
    real, share = np.array(n_real, float), np.array([0.2, 1.0, 2.5, 0.4, 0.1][: len(n_real)])
    synthetic = real * C1 ** (real / 1000) * (C2**share - 1)
    assert len(amount) == len(n_real)
    return real, synthetic * amount, share * real


def test_the_constants_are_those_of_points_that_follow_the_equation() -> None:
    real, synthetic, worth = points([100, 300, 1000, 1000, 6000], [1, 1, 1, 1, 1])
    formula = equivalence.fitted(real, synthetic, worth)
    assert np.exp(formula) == pytest.approx((C1, C2), rel=1e-5)
    assert formula.worth(real, synthetic) == pytest.approx(worth, rel=1e-5)
    off = points([100, 300, 1000, 1000, 6000], [1, 1.5, 0.7, 1, 1])
    assert np.exp(equivalence.fitted(*off)) != pytest.approx((C1, C2), rel=0.01)


def test_of_one_number_of_real_images_the_first_constant_is_1() -> None:
    real, share = np.full(3, 500.0), np.array([0.2, 1.0, 2.0])
    formula = equivalence.fitted(real, real * (C2**share - 1), share * real)
    assert np.exp(formula) == pytest.approx((1, C2))


@pytest.mark.parametrize(
    ("n_real", "worth"),
    [
        pytest.param([100, 1000], [50, 300], id="as many points as constants"),
        pytest.param([100, 300, 1000], [-10, -50, -300], id="a loss"),
        pytest.param([100, 300, 1000], [0, 0, 0], id="nothing"),
        pytest.param([], [], id="none"),
    ],
)
def test_what_the_equation_cannot_say_has_no_constants(n_real: list[int], worth: list[int]) -> None:
    real = np.array(n_real, float)
    assert np.isnan(equivalence.fitted(real, 5 * real, np.array(worth, float))).all()


def test_a_sweeps_amounts_and_the_whole_set_are_rows(found: pd.DataFrame) -> None:
    own = found.query("n_real == 100 and method == 'ddpm'")
    assert own["synthetic"].tolist() == [50, 100, 200, 2000]
    assert (own["num_seeds"] == 5).all()
    whole = low_data.gains(known_cells(sweeps=False)).query("n_real == 100 and method == 'ddpm'").iloc[0]
    for name in ("worth_images", "worth_low_images", "worth_high_images"):
        assert own.iloc[-1][name] == whole[name]
    assert own["worth_images"].is_monotonic_increasing


def test_the_last_number_of_real_images_and_what_is_beyond_the_curve_are_not_fitted(found: pd.DataFrame) -> None:
    assert not found.loc[found["n_real"] == 10_000, "fitted"].any()
    below = found[found["n_real"] < 10_000]
    assert below["fitted"].eq(np.isfinite(below["worth_images"])).all()
    assert not below["fitted"].all()
    assert found["formula_images"].notna().eq(found["fitted"] & found["method"].eq("ddpm")).all()


def test_without_a_learning_curve_there_is_no_worth(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no cell beside none at two n_real or more"):
        pages.write(equivalence.sections(known_cells().query("n_real == 100")), tmp_path, equivalence.MISSING)
