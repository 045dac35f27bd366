"""Every estimate against published values, closed forms and other packages; intervals by how often they are right."""

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import (
    Estimate,
    bootstrap_interval,
    crossed_interval,
    detectable_effect,
    equivalent_images,
    holm,
    iqm,
    mean_interval,
    paired_difference,
    probability_of_improvement,
    rank_correlation,
)

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
    assert difference.value == pytest.approx(1.58, abs=1e-12)
    assert difference.low == pytest.approx(0.7001142, abs=5e-8)
    assert difference.high == pytest.approx(2.4598858, abs=5e-8)
    assert difference.p == pytest.approx(0.002833, abs=5e-7)


def test_paired_difference_gives_fishers_values_for_darwins_maize() -> None:
    difference = paired_difference(MAIZE, np.zeros(15))
    assert difference.value == pytest.approx(20.93, abs=5e-3)
    t_at_95_percent = 2.145  # Fisher's table, 14 degrees of freedom
    t = difference.value / ((difference.high - difference.value) / t_at_95_percent)
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
    assert back == pytest.approx((-forth.value, -forth.high, -forth.low, forth.p))


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


# Seeds and test images, crossed


def answers(rng: np.random.Generator, seeds: int, images: int, of_seed: float, of_image: float) -> np.ndarray:
    """Right or wrong, [seeds, images], where a seed's skill and an image's ease decide beside chance; the truth is
    `RIGHT` in each case."""
    wanted = stats.norm.ppf(RIGHT) * math.sqrt(1 + of_seed**2 + of_image**2)
    skill, ease = rng.normal(0, of_seed, (seeds, 1)), rng.normal(0, of_image, images)
    return (wanted + skill + ease + rng.normal(size=(seeds, images)) > 0).astype(float)


RIGHT = 0.9


def test_the_crossed_intervals_parts_are_those_of_owens_pigeonhole_bootstrap() -> None:
    """Which resamples seeds and images independently, and counts the residual's variance three times."""
    rng = np.random.default_rng(11)
    seeds, images = 40, 60
    values = rng.normal(0, 0.4, (seeds, 1)) + rng.normal(0, 0.6, images) + rng.normal(size=(seeds, images))
    rows, columns = (
        rng.multinomial(seeds, [1 / seeds] * seeds, 20000),
        rng.multinomial(images, [1 / images] * images, 20000),
    )
    bootstrap = np.einsum("rs,si,ri->r", rows, values, columns, optimize=True) / values.size
    additive = values.mean(1, keepdims=True) + values.mean(0) - values.mean()
    residual = np.square(values - additive).sum() / ((seeds - 1) * (images - 1) * values.size)
    found = crossed_interval(values)
    reach = stats.t.ppf(0.975, seeds - 1) * stats.sem(values.mean(1))
    assert found.high - found.value == pytest.approx(math.hypot(reach, found.images))
    assert found.value == pytest.approx(values.mean())
    variance = stats.sem(values.mean(1)) ** 2 + (found.images / stats.norm.ppf(0.975)) ** 2
    assert bootstrap.var() - 2 * residual == pytest.approx(variance, rel=0.05)


def test_images_that_all_seeds_answer_alike_leave_the_t_interval_of_seeds() -> None:
    of_seeds = np.array([0.9, 0.92, 0.95])
    assert crossed_interval(np.repeat(of_seeds[:, None], 50, 1))[:3] == pytest.approx(mean_interval(of_seeds))


def test_one_seed_has_the_binomial_uncertainty_of_its_test_images_and_no_interval() -> None:
    right = np.repeat([1.0, 0.0], [992, 8])
    found = crossed_interval(right[None])
    assert found.images == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(0.992 * 0.008 / 999))
    assert np.isnan(found[1:3]).all()
    alike = crossed_interval([right, right])
    assert alike.images == pytest.approx(found.images)
    assert math.isnan(alike.low)
    with pytest.raises(ValueError, match=r"values must be \[seeds, images\], got shape \(1000,\)"):
        crossed_interval(right)


# Several tasks


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    scores = np.array([[1.0, 100.0], [2.0, -50.0], [3.0, 4.0], [5.0, 6.0]])  # sorted: -50 1 | 2 3 4 5 | 6 100
    assert iqm(list(scores.T)).value == pytest.approx(3.5)
    drawn = list(np.random.default_rng(3).normal(size=(3, 5)))
    assert iqm(drawn).value == pytest.approx(stats.trim_mean(np.ravel(drawn), 0.25))
    low, high = iqm(drawn)[1:]
    assert low < iqm(drawn).value < high
    assert iqm(drawn) == iqm(drawn)  # the same resamples
    assert np.isnan(iqm([drawn[0], drawn[1][:1]])[1:]).all()  # how the second task varies is not known
    with pytest.raises(ValueError, match="needs a score"):
        iqm([[1.0], []])


def test_tasks_of_several_numbers_of_seeds_count_alike_in_an_iqm() -> None:
    rng = np.random.default_rng(8)
    few, more, many = (rng.normal(mean, 1, number) for mean, number in ((0, 2), (3, 2), (1, 8)))
    together = np.concatenate([np.repeat(few, 4), np.repeat(more, 4), many])
    found = iqm([few, more, many])
    assert found.value == pytest.approx(stats.trim_mean(together, 0.25))
    assert found.low < found.value < found.high
    better = probability_of_improvement([few, many], [more, many[:3]])
    alone = [probability_of_improvement([own], [other]).value for own, other in ((few, more), (many, many[:3]))]
    assert better.value == pytest.approx(np.mean(alone))


def test_iqm_resamples_within_tasks_so_that_their_differences_are_no_noise() -> None:
    scores = np.array([0.0, 100.0, 200.0, 300.0]) + np.random.default_rng(4).normal(0, 0.1, (5, 4))
    found = iqm(list(scores.T))
    assert found.high - found.low < 1


def test_the_probability_of_improvement_counts_all_pairs_and_ties_by_half() -> None:
    rng = np.random.default_rng(5)
    treated, baseline = rng.integers(0, 6, (5, 3)), rng.integers(0, 6, (4, 3))
    won = [
        (treated[i, task] > baseline[j, task]) + 0.5 * (treated[i, task] == baseline[j, task])
        for task in range(3)
        for i in range(5)
        for j in range(4)
    ]
    found = probability_of_improvement(list(treated.T), list(baseline.T))
    assert found.value == pytest.approx(np.mean(won))
    u = [stats.mannwhitneyu(treated[:, task], baseline[:, task]).statistic / 20 for task in range(3)]
    assert found.value == pytest.approx(np.mean(u))
    assert found.low < found.value < found.high
    always = probability_of_improvement(list(treated.T + 10), list(baseline.T))
    assert always == pytest.approx((1, math.nan, math.nan), nan_ok=True)  # resamples that agree give no interval
    assert np.isnan(probability_of_improvement(list(treated[:1].T), list(baseline.T))[1:]).all()
    with pytest.raises(ValueError, match="of the same tasks"):
        probability_of_improvement(list(treated.T), list(baseline.T[:2]))


def test_the_probability_of_improvement_holds_each_pair_once() -> None:
    """And not in each of its 2,000 resamples, where those of 300 seeds would take 1.4 GB."""
    scores = np.random.default_rng(5).normal(size=(2, 300))
    tracemalloc.start()
    found = probability_of_improvement([scores[0] + 0.5], [scores[1]])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e8
    assert found.low < stats.norm.cdf(0.5 / np.sqrt(2)) < found.high


# What could be seen, what goes together


@pytest.mark.parametrize(("pairs", "effect"), [(34, 0.5), (199, 0.2), (15, 0.8)])
def test_the_detectable_effect_needs_as_many_pairs_as_published(pairs: int, effect: float) -> None:
    """G*Power 3.1, "difference between two dependent means", two-sided, alpha 0.05, power 0.8, of Cohen's small, medium
    and large effect: 199, 34 and 15 pairs are the fewest."""

    def detectable(number: int) -> float:
        values = np.random.default_rng(6).normal(size=number)
        return detectable_effect((values - values.mean()) / values.std(ddof=1))

    assert detectable(pairs) <= effect < detectable(pairs - 1)


def test_the_detectable_effect_is_in_the_units_of_the_differences() -> None:
    differences = np.array([0.1, 0.4, 0.2, 0.5, 0.3])
    assert detectable_effect(100 * differences) == pytest.approx(100 * detectable_effect(differences))
    assert math.isnan(detectable_effect([0.1]))
    assert math.isnan(detectable_effect([0.1, 0.1, 0.1]))


# Example of `ci.spear` in D. Bonett's R package statpsych (2.x), with its output.
SPEARMAN_Y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
SPEARMAN_X = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]


def test_rank_correlation_gives_the_interval_that_its_author_publishes() -> None:
    expected = (0.8699639, 0.5840951, 0.9638297)
    assert rank_correlation(SPEARMAN_X, SPEARMAN_Y) == pytest.approx(expected, abs=5e-8)


def test_rank_correlation_is_scipys_with_ties_and_knows_no_scale() -> None:
    x, y = np.random.default_rng(7).integers(0, 8, (2, 30))
    found = rank_correlation(x, y)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert rank_correlation(np.exp(x), y) == pytest.approx(found)
    assert rank_correlation(-x, y) == pytest.approx((-found.value, -found.high, -found.low))


def test_rank_correlation_claims_nothing_of_few_or_equal_values() -> None:
    assert rank_correlation([1, 2, 3], [1, 3, 2]) == pytest.approx((0.5, math.nan, math.nan), nan_ok=True)
    assert rank_correlation(range(9), range(9)) == pytest.approx((1, math.nan, math.nan), nan_ok=True)
    assert np.isnan(rank_correlation([1, 1, 1, 1, 1], range(5))).all()
    assert np.isnan(rank_correlation([], [])).all()
    with pytest.raises(ValueError, match="equal lengths, got 2 and 3"):
        rank_correlation([1, 2], [1, 2, 3])


def test_the_bootstrap_interval_is_near_students_for_normal_values_and_claims_nothing_of_three() -> None:
    values = np.random.default_rng(8).normal(98, 0.3, 40)
    assert bootstrap_interval(values) == pytest.approx(mean_interval(values), abs=0.02)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval([1, 2, 3]) == pytest.approx((2, math.nan, math.nan), nan_ok=True)
    assert bootstrap_interval([2, 2, 2, 2]) == pytest.approx((2, math.nan, math.nan), nan_ok=True)
    assert np.isnan(bootstrap_interval([])).all()


# Real images that synthetic ones are worth

COUNTS = [100, 200, 400, 800]


def curve(seeds: int, spread: float = 0.0) -> np.ndarray:
    """Accuracies of error 2 / sqrt(count), [sizes, seeds]: a straight line in the logarithms."""
    noise = np.random.default_rng(9).normal(0, spread, (4, seeds))
    return 1 - 2 / np.sqrt(np.array(COUNTS))[:, None] + noise


def worth(rng: np.random.Generator, seeds: int, absent: int = 0) -> Estimate:
    """Of accuracies whose seeds all sizes and the treated share, with spreads like MNIST's; the truth is 150 images.
    The first seeds are absent from the larger sizes."""
    errors = 2 / np.sqrt(np.array([*COUNTS, 250.0]))[:, None]
    drawn = 1 - errors * (1 + 0.07 * rng.normal(size=seeds) + 0.07 * rng.normal(size=(5, seeds)))
    drawn[2:4, :absent] = np.nan
    return equivalent_images(COUNTS, drawn[:4], 100, drawn[4])


def test_equivalent_images_are_the_inverse_of_a_known_learning_curve() -> None:
    for images in (150, 300, 777):
        found = equivalent_images(COUNTS, curve(3), 100, [1 - 2 / math.sqrt(images)] * 3)
        assert found.value == pytest.approx(images - 100)
        assert found[1:] == pytest.approx((images - 100,) * 2, rel=0.02)  # to a step of where it is tested
    assert equivalent_images(COUNTS, curve(3), 200, curve(3)[1]).value == pytest.approx(0, abs=1e-6)


def test_equivalent_images_beyond_the_curve_are_infinite() -> None:
    assert equivalent_images(COUNTS, curve(3), 100, [0.99] * 3) == (np.inf,) * 3
    assert equivalent_images(COUNTS, curve(3), 100, [0.5] * 3) == (-np.inf,) * 3
    near = equivalent_images(COUNTS, curve(5, 0.003), 400, 1 - 2 / math.sqrt(780) + np.linspace(-0.01, 0.01, 5))
    assert 300 < near.value < 400
    assert (math.isfinite(near.low), near.high) == (True, np.inf)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_worth_contains_nothing_exactly_where_the_gain_contains_nothing(seeds: int) -> None:
    rng = np.random.default_rng(12)
    agreed = set()
    for _ in range(40):
        baseline = curve(1) + rng.normal(0, 0.02, (4, seeds))
        treated = baseline[1] + rng.normal(0.02, 0.02, seeds)
        gain, found = paired_difference(treated, baseline[1]), equivalent_images(COUNTS, baseline, 200, treated)
        if len(set(baseline.mean(1).argsort())) == 4 and (np.diff(baseline.mean(1)) > 0).all():
            assert (gain.low > 0) == (found.low > 0)
            agreed.add(gain.low > 0)
    assert agreed == {True, False}


def test_equivalent_images_of_one_seed_have_no_interval() -> None:
    found = equivalent_images(COUNTS, curve(1), 100, [1 - 2 / math.sqrt(300)])
    assert found == pytest.approx((200, math.nan, math.nan), nan_ok=True)


def test_a_learning_curve_that_dips_goes_on_level() -> None:
    baseline = [[0.8, 0.8], [0.9, 0.9], [0.88, 0.88], [0.95, 0.95]]
    below, above = (equivalent_images(COUNTS, baseline, 0, [mean, mean]).value for mean in (0.8999, 0.9001))
    assert below == pytest.approx(200, abs=1)
    assert above == pytest.approx(400, abs=1)


@pytest.mark.parametrize("counts", [[100, 200, 400], [100, 400, 200, 800]])
def test_a_learning_curve_needs_accuracies_for_ascending_counts(counts: list[int]) -> None:
    with pytest.raises(ValueError, match=f"accuracies for each of {len(counts)} ascending counts"):
        equivalent_images(counts, curve(2), 100, [0.9, 0.9])


# Whether 95 % are 95 %

REPEATS = 800
"""The share of intervals that cover has a standard deviation of 0.8 points then."""
TASKS = np.array([-1.0, -0.3, 0.3, 1.0])  # symmetric: the mean of the middle half is 0
SHIFTS = np.array([0.0, 0.3, 0.6, 0.9])


def correlated(rng: np.random.Generator, r: float) -> np.ndarray:
    return rng.multivariate_normal([0, 0], [[1, r], [r, 1]], 15).T


@pytest.mark.parametrize(
    ("estimate", "truth"),
    [
        pytest.param(lambda rng: worth(rng, 5), 150, id="real images worth, 5"),
        pytest.param(lambda rng: worth(rng, 3), 150, id="real images worth, 3"),
        pytest.param(lambda rng: worth(rng, 8, absent=3), 150, id="real images worth, 8 and 5"),
        pytest.param(lambda rng: crossed_interval(answers(rng, 5, 300, 0.1, 1))[:3], RIGHT, id="seeds and images, 5"),
        pytest.param(lambda rng: crossed_interval(answers(rng, 3, 300, 0.3, 1))[:3], RIGHT, id="seeds and images, 3"),
        pytest.param(lambda rng: crossed_interval(answers(rng, 10, 300, 0, 0.5))[:3], RIGHT, id="images alone, 10"),
        pytest.param(lambda rng: mean_interval(rng.normal(1, 2, 5)), 1, id="mean, 5"),
        pytest.param(lambda rng: bootstrap_interval(rng.normal(1, 2, 5), resamples=1000), 1, id="bootstrap, 5"),
        pytest.param(lambda rng: bootstrap_interval(rng.normal(1, 2, 10), resamples=1000), 1, id="bootstrap, 10"),
        pytest.param(
            lambda rng: iqm([*rng.normal(TASKS, 0.5, (5, 4)).T], resamples=1000), 0, id="iqm, 5 seeds of 4 tasks"
        ),
        pytest.param(
            lambda rng: iqm(
                [rng.normal(mean, 0.5, n) for mean, n in zip(TASKS, (3, 10, 10, 3), strict=True)], resamples=1000
            ),
            0,
            id="iqm, 3, 10, 10 and 3 seeds",
        ),
        pytest.param(
            lambda rng: probability_of_improvement(
                [*rng.normal(SHIFTS, 1, (5, 4)).T], [*rng.normal(0, 1, (4, 5))], resamples=500
            ),
            stats.norm.cdf(SHIFTS / math.sqrt(2)).mean(),
            id="probability of improvement, 5 seeds of 4 tasks",
        ),
        pytest.param(lambda rng: rank_correlation(*correlated(rng, 0)), 0, id="rank correlation, 15, none"),
        pytest.param(
            lambda rng: rank_correlation(*correlated(rng, 0.6)), 6 / math.pi * math.asin(0.3), id="rank correlation, 15"
        ),
    ],
)
def test_intervals_cover_the_truth_as_often_as_they_promise(estimate: Callable, truth: float) -> None:
    rng = np.random.default_rng(10)
    ends = np.array([estimate(rng)[1:3] for _ in range(REPEATS)])
    covered = float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())
    assert 0.93 <= covered <= 0.97
