"""Means, intervals and paired tests as pure functions of arrays.

Nothing is claimed that the numbers cannot support: with fewer than two values, or with values that do not
vary, there is no estimate of the spread, so no interval and no p-value; these are NaN then. A spread of zero
over a few seeds does not mean that the next seed brings the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from analysis.lazily import ArrayLike, NDArray, np, pd, special, stats

# Metrics are often computed in float32: a spread below its rounding is no spread.
ROUNDING = 4 * 2.0**-23
STEPS = 200
"""Of a learning curve from one count to the next, where it is tested."""


class Estimate(NamedTuple):
    """A figure with the ends of its confidence interval; NaN ends where the numbers support none."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


class Difference(NamedTuple):
    """A mean paired difference with its confidence interval, and the two-sided p-value of "it is zero"."""

    value: float
    low: float
    high: float
    p: float


def columns(estimate: Estimate | Difference, name: str, unit: str) -> dict[str, float]:
    """An estimate as a table has it: NAME_UNIT, NAME_low_UNIT and NAME_high_UNIT."""
    return {f"{name}{end}_{unit}": value for end, value in zip(("", "_low", "_high"), estimate[:3], strict=True)}


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean and Student's t interval of independent values, float [n].

    n = 0: all NaN. n = 1 or values that do not vary: the mean, and NaN ends.
    """
    sample = vector(values)
    return interval(sample, magnitude(sample), confidence)


def share(count: int, number: int, confidence: float = 0.95) -> Estimate:
    """The share of `count` in `number` independent cases, with Clopper and Pearson's (1934) exact interval."""
    found = stats.binomtest(count, number).proportion_ci(confidence)
    return Estimate(count / number, found.low, found.high)


def paired_difference(treated: ArrayLike, baseline: ArrayLike, confidence: float = 0.95) -> Difference:
    """Mean of treated - baseline with its t interval, and p by the paired t-test (two-sided).

    treated, baseline: float [n], the same place is the same pair. n = 0: all NaN. n = 1 or differences
    that do not vary (all zero among them): the mean, and NaN for the ends and for p.

    Raises ValueError for arrays of unequal length.
    """
    treated, baseline = vector(treated), vector(baseline)
    if treated.shape != baseline.shape:
        raise ValueError(f"pairs need equal lengths, got {len(treated)} and {len(baseline)}")
    scale = max(magnitude(treated), magnitude(baseline))
    difference = treated - baseline
    estimate = interval(difference, scale, confidence)
    if np.isnan(estimate.low):
        return Difference(*estimate, p=np.nan)
    t = abs(estimate.value) / standard_error(difference)
    return Difference(*estimate, p=float(2 * special.stdtr(len(difference) - 1, -t)))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's (1979) step-down correction: p-values float [m] in 0 … 1 -> corrected, float [m], same order.

    NaN marks a test that could not be made: it stays NaN and does not count as one of the family.
    """
    corrected = vector(p).copy()
    order = np.argsort(corrected)[: np.count_nonzero(~np.isnan(corrected))]  # NaN comes last
    stricter = np.arange(len(order), 0, -1) * corrected[order]
    corrected[order] = np.minimum(np.maximum.accumulate(stricter), 1)
    return corrected


class Crossed(NamedTuple):
    """A mean over seeds and images with its confidence interval, and what of that the images make alone."""

    value: float
    low: float
    high: float
    images: float
    """half the width that the interval would have over so many images, were the seeds without number"""


def crossed_interval(values: ArrayLike, confidence: float = 0.95) -> Crossed:
    """Mean of float [seeds, images], each image under each seed, with an interval over seeds and images to come.

    Both are drawn, crossed: the mean's variance is that of seeds, plus that of images, as an analysis of variance
    tells them apart. It is what Owen's (2007, arXiv:0712.1111) pigeonhole bootstrap estimates, without resampling and
    without the residual that this counts three times. Student's t widens the part of the seeds, so the interval
    contains their t interval. One seed, or seeds whose means do not vary: NaN ends.

    Raises ValueError for values of other dimensions, or of fewer than two images.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise ValueError(f"values must be [seeds, images], got shape {values.shape}")
    num_seeds, num_images = values.shape
    mean, of_seeds, of_images = values.mean(), values.mean(1), values.mean(0)
    variance = of_images.var(ddof=1) / num_images
    normal, student = special.ndtri((1 + confidence) / 2), special.stdtrit(num_seeds - 1, (1 + confidence) / 2)
    if num_seeds == 1:
        return Crossed(float(mean), np.nan, np.nan, float(normal * np.sqrt(variance)))
    squares = (
        np.vdot(values, values) - num_images * np.vdot(of_seeds, of_seeds) - num_seeds * np.vdot(of_images, of_images)
    )
    residual = (squares + num_seeds * num_images * mean**2) / ((num_seeds - 1) * (num_images - 1))
    images = float(normal * np.sqrt(max(variance - residual / values.size, 0)))
    if of_seeds.std(ddof=1) <= ROUNDING * magnitude(values.ravel()):
        return Crossed(float(mean), np.nan, np.nan, images)
    reach = float(np.hypot(student * standard_error(of_seeds), images))
    return Crossed(float(mean), float(mean) - reach, float(mean) + reach, images)


def bootstrap_interval(values: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0) -> Estimate:
    """Mean and bootstrap-t interval (Efron & Tibshirani 1993, ch. 12) of independent values, float [n].

    The percentile and BCa intervals are too short for the five or ten seeds of a table's row; this one is not,
    since each resample's mean is measured in its own standard errors. Resamples of one value again and again have
    none: their means lie infinitely far off. Fewer than four values, values that do not vary, or so few distinct ones
    that an end would be infinite: NaN ends.
    """
    sample = vector(values)
    if len(sample) < 4 or sample.std(ddof=1) <= ROUNDING * magnitude(sample):
        return Estimate(float(sample.mean()) if len(sample) else np.nan, np.nan, np.nan)
    drawn = np.random.default_rng(seed).choice(sample, (resamples, len(sample)))
    errors = standard_error(drawn)
    off = drawn.mean(1) - sample.mean()
    varied = errors > ROUNDING * magnitude(sample)
    t = np.where(varied, off / np.where(varied, errors, 1), np.copysign(np.inf, off))
    low, high = np.quantile(t, [(1 + confidence) / 2, (1 - confidence) / 2], method="inverted_cdf")
    if not np.isfinite([low, high]).all():
        return Estimate(float(sample.mean()), np.nan, np.nan)
    return Estimate(float(sample.mean()), *(float(sample.mean() - end * standard_error(sample)) for end in (low, high)))


def iqm(tasks: Sequence[ArrayLike], confidence: float = 0.95, resamples: int = 5000, seed: int = 0) -> Estimate:
    """Interquartile mean of the scores of tasks, float [seeds] each, with its stratified bootstrap interval.

    Agarwal et al. 2021 (arXiv:2108.13264): the mean of the middle half of all scores; seeds are resampled within
    each task. A task counts as much as any other, however many seeds it has. Too few seeds for that, or none that vary:
    NaN ends.
    """
    scores = _of_tasks(tasks)
    weights = np.concatenate([np.full(len(own), 1 / len(own)) for own in scores])
    value = float(_middle_half(np.concatenate(scores), weights))
    if min(map(len, scores)) < 2:
        return Estimate(value, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([own[rng.integers(len(own), size=(resamples, len(own)))] for own in scores], axis=1)
    return Estimate(value, *_percentiles(_middle_half(drawn, weights), confidence, [*map(len, scores)]))


def _middle_half(scores: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Their mean without the upper and the lower quarter by weight, [..., n] -> [...]; of n equal ones without n // 4
    at each end, as `scipy.stats.trim_mean` has it."""
    order = scores.argsort(-1)
    up_to = (weights / weights.sum())[order].cumsum(-1)
    cut = scores.shape[-1] // 4 / scores.shape[-1]
    inside = np.diff(up_to.clip(cut, 1 - cut), axis=-1, prepend=cut)
    return (inside * np.take_along_axis(scores, order, -1)).sum(-1) / (1 - 2 * cut)


def probability_of_improvement(
    treated: Sequence[ArrayLike],
    baseline: Sequence[ArrayLike],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """How likely a run of the one is better than a run of the other, float [seeds] for each task: the mean over tasks
    of Mann and Whitney's U / (n m), ties counted half, with a stratified bootstrap interval (Agarwal et al. 2021)."""
    ours, theirs = _of_tasks(treated), _of_tasks(baseline)
    if len(ours) != len(theirs):
        raise ValueError(f"scores must be of the same tasks, got {len(ours)} and {len(theirs)}")
    won = [
        (own[:, None] > other) + 0.5 * (own[:, None] == other) for own, other in zip(ours, theirs, strict=True)
    ]  # [ours, theirs] of each task
    value = float(np.mean([pairs.mean() for pairs in won]))
    fewest = [min(pairs.shape) for pairs in won]
    if min(fewest) < 2:
        return Estimate(value, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    drawn = np.zeros(resamples)
    for pairs in won:
        times = [_times_drawn(number, resamples, rng) for number in pairs.shape]
        drawn += np.einsum("ri,ij,rj->r", times[0], pairs, times[1], optimize=True) / pairs.size / len(won)
    return Estimate(value, *_percentiles(drawn, confidence, fewest))


def _of_tasks(tasks: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    scores = [vector(own) for own in tasks]
    if not scores or not all(map(len, scores)):
        raise ValueError("each of one or more tasks needs a score")
    return scores


def _times_drawn(seeds: int, resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each seed is there where as many are drawn anew, [resamples, seeds].

    A resample has the pairs of its seeds, each so often: no more than these need to be held.
    """
    rows = rng.integers(seeds, size=(resamples, seeds))
    times = np.zeros(rows.shape)
    np.add.at(times, (np.arange(resamples)[:, None], rows), 1)
    return times


def _percentiles(drawn: NDArray[np.float64], confidence: float, seeds: Sequence[int]) -> tuple[float, float]:
    """The expanded percentile interval (Hesterberg 2015, doi:10.1080/00031305.2015.1089789) from resamples of tasks
    with so many seeds: those of few vary too little by the root of (n - 1) / n, and ends by the normal distribution
    would lie too close.

    NaN where the resamples all agree, or where even the rarest of them, the product of n ** -n, is more likely than
    the tail beyond an end: three seeds of one task have a range, which is no 95 % interval; five have one, or three of
    three tasks.
    """
    n = np.asarray(seeds, dtype=np.float64)
    t = special.stdtrit((n - 1).sum(), (1 + confidence) / 2)
    outside = special.ndtr(-np.sqrt((1 / n).sum() / ((n - 1) / n**2).sum()) * t)
    if np.ptp(drawn) == 0 or np.log(outside) < -(n * np.log(n)).sum():
        return np.nan, np.nan
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return float(low), float(high)


def detectable_effect(differences: ArrayLike, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest mean difference that as many seeds with this spread show with this power, by the paired t-test: what
    lets the noncentral t lie above the critical value so often. Below its negative it never lies (1e-5 at this power).

    differences: float [n], in the units of the result. NaN for fewer than two, or none that vary.
    """
    sample = vector(differences)
    if len(sample) < 2 or sample.std(ddof=1) <= ROUNDING * magnitude(sample):
        return np.nan
    critical = special.stdtrit(len(sample) - 1, 1 - alpha / 2)
    return float(special.nctdtrinc(len(sample) - 1, 1 - power, critical) * standard_error(sample))


def rank_correlation(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Spearman's correlation of float [n] and [n] with Bonett and Wright's (2000) interval: Fisher's z with the
    variance (1 + r² / 2) / (n - 3). Fewer than five pairs, or one side that does not vary: NaN ends, or all NaN."""
    x, y = vector(x), vector(y)
    if x.shape != y.shape:
        raise ValueError(f"pairs need equal lengths, got {len(x)} and {len(y)}")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return UNKNOWN
    value = float(np.corrcoef(pd.Series(x).rank(), pd.Series(y).rank())[0, 1])
    if len(x) < 5 or np.isclose(abs(value), 1):
        return Estimate(value, np.nan, np.nan)
    reach = special.ndtri((1 + confidence) / 2) * np.sqrt((1 + value**2 / 2) / (len(x) - 3))
    return Estimate(value, *(float(np.tanh(np.arctanh(value) + side * reach)) for side in (-1, 1)))


def equivalent_images(
    counts: ArrayLike, baseline: ArrayLike, n_real: float, treated: ArrayLike, confidence: float = 0.95
) -> Estimate:
    """How many real images without synthetic ones are as good as `n_real` with them, less `n_real`.

    counts: int [sizes], ascending; baseline: accuracies 0 … 1 [sizes, seeds]; treated: those at `n_real`, [seeds];
    NaN where a seed was not measured. A learning curve goes through the means, straight in the logarithms of the count
    and of the error. The interval has the counts at which a paired t-test does not tell the curve from the treated,
    seed by seed (Fieller 1954): it contains no difference exactly where the gain's own t interval contains zero. An
    end beyond the curve is infinite: more than the largest count, or fewer than the smallest, were not measured. A
    side with one seed alone: NaN ends.
    """
    counts, treated = np.asarray(counts, dtype=np.float64), vector(treated)
    errors = 1 - np.asarray(baseline, dtype=np.float64)
    known = ~np.isnan(errors)
    if len(errors) != len(counts) or (np.diff(counts) <= 0).any() or not known.any(1).all() or np.isnan(treated).all():
        raise ValueError(f"the baseline needs accuracies for each of {len(counts)} ascending counts")
    means = np.nanmean(errors, 1)
    best = np.array([int(means[: place + 1].argmin()) for place in range(len(counts))])  # more images do no harm
    curve = np.log(np.maximum(means[best], 1e-9))
    reached = np.log(max(1 - np.nanmean(treated), 1e-9))
    value = np.exp(np.interp(-reached, -curve, np.log(counts)))
    if reached < curve[-1] or reached > curve[0]:
        value = np.inf if reached < curve[-1] else -np.inf
    if min(known.sum(1).min(), (~np.isnan(treated)).sum()) < 2:
        return Estimate(float(value - n_real), np.nan, np.nan)

    places = np.linspace(0, len(counts) - 1, STEPS * (len(counts) - 1) + 1)
    if counts[0] <= n_real <= counts[-1]:
        places = np.union1d(places, np.interp(np.log(n_real), np.log(counts), np.arange(len(counts))))
    tests = _apart(places, curve, errors[best], 1 - treated, confidence)
    at = np.exp(np.interp(places, np.arange(len(counts)), np.log(counts)))
    if value == np.inf:
        return Estimate(np.inf, _crossing(at[::-1], -tests[::-1], -np.inf, np.inf) - n_real, np.inf)
    if value == -np.inf:
        return Estimate(-np.inf, -np.inf, _crossing(at, tests, np.inf, -np.inf) - n_real)
    low = _crossing(at[at <= value][::-1], -tests[at <= value][::-1], -np.inf, value)
    high = _crossing(at[at >= value], tests[at >= value], np.inf, value)
    return Estimate(float(value - n_real), float(low - n_real), float(high - n_real))


def _apart(
    places: NDArray[np.float64],
    curve: NDArray[np.float64],
    errors: NDArray[np.float64],
    treated: NDArray[np.float64],
    confidence: float,
) -> NDArray[np.float64]:
    """By how much the treated error, [seeds], is above the curve's at places between its sizes, as a share of what a
    paired t-test needs: above 1 and below -1 they differ. Linear in each seed's errors, [sizes, seeds]; sides of
    different seeds have the degrees of freedom that their shares of the variance give them (Satterthwaite 1946)."""
    before = np.minimum(places.astype(int), len(curve) - 2)
    share = (places - before)[:, None]
    reached = np.exp((1 - share) * curve[before, None] + share * curve[before + 1, None])
    ours, freedom = _deviations(treated[None])
    theirs, of_sizes = _deviations(errors)
    first = (1 - share) * reached / np.exp(curve[before, None]) * theirs[before]
    second = share * reached / np.exp(curve[before + 1, None]) * theirs[before + 1]
    degrees = (np.broadcast_to(freedom, len(places)), of_sizes[before], of_sizes[before + 1])
    parts = [np.square(part).sum(-1) for part in (np.broadcast_to(ours, first.shape), first, second)]
    weighted = sum(part / each for part, each in zip(parts, degrees, strict=True))
    total = np.sum(parts, 0)
    error = np.sqrt(np.square(ours - first - second).sum(-1))
    difference = np.nanmean(treated) - reached[:, 0]
    varied = (total > 0) & (error > ROUNDING / errors.shape[1])
    student = special.stdtrit(np.divide(total, weighted, where=varied, out=np.ones_like(total)), (1 + confidence) / 2)
    never = np.where(np.abs(difference) > 1e-12, np.copysign(np.inf, difference), 0.0)
    return np.where(varied, difference / np.where(varied, student * error, 1), never)


def _deviations(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """From each row's mean, so that the squares' sum is that of its standard error, and the degrees of freedom; NaN
    counts for nothing: [rows, seeds] and [rows]."""
    numbers = (~np.isnan(values)).sum(1)
    scale = np.sqrt(numbers * (numbers - 1))
    return np.nan_to_num(values - np.nanmean(values, 1, keepdims=True)) / scale[:, None], numbers - 1


def _crossing(counts: NDArray[np.float64], tests: NDArray[np.float64], beyond: float, at_once: float) -> float:
    """The count at which tests first leave 1; `beyond` where they do not, `at_once` where they begin outside."""
    outside = np.flatnonzero(tests > 1)
    if not len(outside):
        return beyond
    first = int(outside[0])
    if first == 0:
        return at_once
    if np.isinf(tests[first]):
        return float(counts[first - 1])
    return float(np.exp(np.interp(1.0, tests[first - 1 : first + 1], np.log(counts[first - 1 : first + 1]))))


def interval(sample: NDArray[np.float64], scale: float, confidence: float) -> Estimate:
    """The t interval of float [n]; `scale` is the magnitude of what was subtracted to get the sample."""
    if not len(sample):
        return UNKNOWN
    mean = float(sample.mean())
    if len(sample) == 1 or sample.std(ddof=1) <= ROUNDING * scale:
        return Estimate(mean, np.nan, np.nan)
    reach = float(special.stdtrit(len(sample) - 1, (1 + confidence) / 2) * standard_error(sample))
    return Estimate(mean, mean - reach, mean + reach)


def standard_error(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean over the last dimension: [..., n] -> [...]."""
    return samples.std(-1, ddof=1) / np.sqrt(samples.shape[-1])


def magnitude(sample: NDArray[np.float64]) -> float:
    """The largest absolute value of float [n]; 0 for an empty sample."""
    return float(np.abs(sample).max(initial=0.0))


def vector(values: ArrayLike) -> NDArray[np.float64]:
    """Values as float64 [n]. Raises ValueError for any other number of dimensions."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must have one dimension, got shape {array.shape}")
    return array
