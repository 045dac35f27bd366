"""Intervals, paired tests and Holm's correction against published values and closed forms."""

import math

import numpy as np
import pytest

from analysis.statistics import holm, mean_interval, paired_difference

# Additional hours of sleep by two drugs, ten patients: Student (1908), "The probable error of a mean",
# Biometrika 6; R's data set `sleep`, whose paired t.test gives t = 4.0621, p = 0.002833 and the interval
# 0.7001142 … 2.4598858.
FIRST_DRUG = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND_DRUG = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Heights of crossed minus self-fertilised maize in eighths of an inch: Darwin (1876) as analysed by Fisher
# (1935), The Design of Experiments, section 17: mean 20.93, t = 2.148 with 14 degrees of freedom.
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_paired_difference_gives_the_values_published_for_students_sleep_data() -> None:
    difference = paired_difference(SECOND_DRUG, FIRST_DRUG)
    assert difference.mean == pytest.approx(1.58, abs=1e-12)
    assert difference.low == pytest.approx(0.7001142, abs=5e-8)
    assert difference.high == pytest.approx(2.4598858, abs=5e-8)
    assert difference.p == pytest.approx(0.002833, abs=5e-7)


def test_paired_difference_gives_fishers_values_for_darwins_maize() -> None:
    difference = paired_difference(MAIZE, np.zeros(15))
    assert difference.mean == pytest.approx(20.93, abs=5e-3)
    t_at_95_percent = 2.145  # Fisher's table, 14 degrees of freedom
    t = difference.mean / ((difference.high - difference.mean) / t_at_95_percent)
    assert t == pytest.approx(2.148, abs=2e-3)
    assert difference.p == pytest.approx(0.0497, abs=5e-5)


@pytest.mark.parametrize("seed", range(5))
def test_paired_difference_agrees_with_the_closed_form_for_three_pairs(seed: int) -> None:
    """With 2 degrees of freedom Student's distribution function is 1/2 + t / (2 sqrt(2 + t²))."""
    treated, baseline = np.random.default_rng(seed).normal(97, 0.5, (2, 3))
    d = treated - baseline
    error = math.sqrt(((d - d.mean()) ** 2).sum() / 2 / 3)
    t = abs(d.mean()) / error
    quantile = math.sqrt(2 * 0.95**2 / (1 - 0.95**2))
    difference = paired_difference(treated, baseline)
    assert difference.p == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert difference.low == pytest.approx(d.mean() - quantile * error)
    assert difference.high == pytest.approx(d.mean() + quantile * error)


def test_mean_interval_of_two_values_is_the_cauchy_quantile_on_both_sides() -> None:
    """With 1 degree of freedom Student's distribution is Cauchy's; the standard error is half the range."""
    half_width = math.tan(math.pi * 0.95 / 2) * 0.2
    assert mean_interval([98.2, 98.6]) == pytest.approx((98.4, 98.4 - half_width, 98.4 + half_width))


def test_mean_interval_covers_the_true_mean_as_often_as_it_promises() -> None:
    samples = np.random.default_rng(0).normal(98.5, 0.3, (2000, 3))
    covered = [low <= 98.5 <= high for _, low, high in map(mean_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)  # three standard deviations of the share


def test_pairing_removes_what_both_sides_of_a_pair_share() -> None:
    rng = np.random.default_rng(1)
    seeds, noise = rng.normal(0, 10, 8), rng.normal(0, 0.1, 8)
    shared = paired_difference(90 + seeds + 1 + noise, 90 + seeds)
    assert shared == pytest.approx(paired_difference(1 + noise, np.zeros(8)))
    assert shared.p < 1e-6


def test_exchanging_the_sides_mirrors_the_difference() -> None:
    forth, back = paired_difference(SECOND_DRUG, FIRST_DRUG), paired_difference(FIRST_DRUG, SECOND_DRUG)
    assert back == pytest.approx((-forth.mean, -forth.high, -forth.low, forth.p))


def test_one_value_has_a_mean_and_claims_nothing_else() -> None:
    assert mean_interval([98.4]) == pytest.approx((98.4, math.nan, math.nan), nan_ok=True)
    assert paired_difference([98.4], [98.0]) == pytest.approx((0.4, *[math.nan] * 3), nan_ok=True)


def test_no_value_has_not_even_a_mean() -> None:
    assert np.isnan(mean_interval([])).all()
    assert np.isnan(paired_difference([], [])).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("treated", "baseline", "mean"),
    [
        ([97.0, 98.0, 99.0], [97.0, 98.0, 99.0], 0.0),
        ([97.5, 98.5, 99.5], [97.0, 98.0, 99.0], 0.5),
        # Equal but for the rounding of float32.
        (np.float32([0.98, 0.97, 0.96]), np.float32([0.97, 0.96, 0.95]), 0.01),
    ],
)
def test_differences_that_do_not_vary_have_no_interval_and_no_p(treated, baseline, mean: float) -> None:
    difference = paired_difference(treated, baseline)
    assert difference == pytest.approx((mean, *[math.nan] * 3), nan_ok=True, abs=1e-6)


def test_one_image_of_ten_thousand_in_one_seed_is_a_difference_that_varies() -> None:
    baseline = np.full(100, 98.45, dtype=np.float32)
    treated = baseline.copy()
    treated[0] += np.float32(0.01)
    assert 0 < paired_difference(treated, baseline).p < 1


def test_values_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="equal lengths, got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"one dimension, got shape \(1, 2\)"):
        mean_interval([[1.0, 2.0]])


def test_holm_gives_the_worked_example() -> None:
    """Wikipedia, "Holm–Bonferroni method", example: at 0.05 it rejects 0.005 and 0.01 alone."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_rejects_what_the_sequential_procedure_of_holm_1979_rejects() -> None:
    rng = np.random.default_rng(2)
    for size in (1, 2, 3, 5, 8):
        p = rng.uniform(0, 0.1, size)
        corrected = holm(p)
        for level in rng.uniform(0.01, 0.5, 100):
            assert (corrected <= level).tolist() == sequentially_rejected(p, level)


def sequentially_rejected(p: np.ndarray, level: float) -> list[bool]:
    rejected = [False] * len(p)
    for already, place in enumerate(np.argsort(p)):
        if p[place] > level / (len(p) - already):
            break
        rejected[place] = True
    return rejected


def test_holm_leaves_out_the_tests_that_could_not_be_made() -> None:
    corrected = holm([0.01, math.nan, 0.04, 0.03, 0.005, math.nan])
    assert corrected == pytest.approx([0.03, math.nan, 0.06, 0.06, 0.02, math.nan], nan_ok=True)
    assert np.isnan(holm([math.nan, math.nan])).all()
    assert holm([]).shape == (0,)


def test_holm_keeps_a_single_test_and_never_exceeds_one() -> None:
    assert holm([0.04]) == pytest.approx([0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
