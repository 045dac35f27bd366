"""Means, intervals and paired tests as pure functions of arrays.

Nothing is claimed that the numbers cannot support: with fewer than two values, or with values that do not
vary, there is no estimate of the spread, so no interval and no p-value; these are NaN then. A spread of zero
over a few seeds does not mean that the next seed brings the same.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

# Metrics are often computed in float32: a spread below its rounding is no spread.
ROUNDING = 4 * float(np.finfo(np.float32).eps)


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval, in the units of the values."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A mean paired difference with its confidence interval, and the two-sided p-value of "it is zero"."""

    mean: float
    low: float
    high: float
    p: float


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean and Student's t interval of independent values, float [n].

    n = 0: all NaN. n = 1 or values that do not vary: the mean, and NaN ends.
    """
    sample = vector(values)
    return interval(sample, magnitude(sample), confidence)


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
    estimate = interval(treated - baseline, scale, confidence)
    p = np.nan if np.isnan(estimate.low) else stats.ttest_rel(treated, baseline).pvalue
    return Difference(*estimate, p=float(p))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's (1979) step-down correction: p-values float [m] in 0 … 1 -> corrected, float [m], same order.

    NaN marks a test that could not be made: it stays NaN and does not count as one of the family.
    """
    corrected = vector(p).copy()
    tested = ~np.isnan(corrected)
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], method="holm")[1]
    return corrected


def interval(sample: NDArray[np.float64], scale: float, confidence: float) -> Interval:
    """The t interval of float [n]; `scale` is the magnitude of what was subtracted to get the sample."""
    if not len(sample):
        return Interval(np.nan, np.nan, np.nan)
    mean = float(sample.mean())
    if len(sample) == 1 or sample.std(ddof=1) <= ROUNDING * scale:
        return Interval(mean, np.nan, np.nan)
    low, high = stats.t.interval(confidence, df=len(sample) - 1, loc=mean, scale=stats.sem(sample))
    return Interval(mean, float(low), float(high))


def magnitude(sample: NDArray[np.float64]) -> float:
    """The largest absolute value of float [n]; 0 for an empty sample."""
    return float(np.abs(sample).max(initial=0.0))


def vector(values: ArrayLike) -> NDArray[np.float64]:
    """Values as float64 [n]. Raises ValueError for any other number of dimensions."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must have one dimension, got shape {array.shape}")
    return array
