"""Confidence intervals and tests of differences, from the same model of noise as the marks of a table.

Two results on one text, or on the same questions, are compared *paired*, sequence by sequence or question by question,
so that the difficulty of a sequence cancels in the difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from prunebench.report.noise import Noise, Seeds, fit

CONFIDENCE = 0.95
FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True)
class Summary:
    """Mean and spread of values over seeds.

    Args:
        n: number of values.
        mean: their mean; not finite if one of them is not.
        spread: sample standard deviation; NaN for a single value.
        low, high: Student's confidence interval of the mean; NaN for a single value.
    """

    n: int
    mean: float
    spread: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Args:
        value: the estimate.
        low, high: the interval; NaN if the noise is unknown.
        p: two-sided p-value of the estimate being 0.
    """

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Change:
    """A paired difference with its confidence interval and p-value.

    Args:
        value: other / base (perplexity) or other - base (accuracy, a fraction). Infinite or 0 if one side has losses
            that are not finite; NaN if both have.
        low, high: confidence interval of ``value``.
        p: two-sided p-value: the probability of a difference this large under no difference.
    """

    value: float
    low: float
    high: float
    p: float


def over_seeds(values: Sequence[float], confidence: float = CONFIDENCE) -> Summary:
    """Mean, standard deviation and confidence interval of values that differ only by their seed.

    Args:
        values: at least one value.
        confidence: level of the interval.
    """
    array = np.asarray(values, dtype=np.float64)
    n, mean = len(array), float(array.mean())
    if n < 2 or not np.isfinite(array).all():
        return Summary(n, mean, math.nan, math.nan, math.nan)
    spread = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)
    return Summary(n, mean, spread, mean - half, mean + half)


def mean_losses(
    methods: Sequence[Seeds], weights: np.ndarray | None = None, confidence: float = CONFIDENCE
) -> list[Interval]:
    """The mean loss of each method over seeds and sequences.

    Args:
        methods: the methods that compete in one column of a table, as in ``prunebench.report.noise.fit``; those near
            the lowest share what is known of the spread between seeds.
        weights: (sequences,): see ``prunebench.report.significance.best``.
        confidence: level of the intervals.

    Returns:
        One interval for each method, over seeds and sequences; over sequences alone where nothing shows how much its
        seeds differ; NaN with a single sequence or losses that are not finite.
    """
    finite = [seeds for seeds in methods if all(np.isfinite(array).all() for array in seeds.values())]
    unknown = Interval(math.nan, math.nan, math.nan, math.nan)
    if not finite or len(next(iter(finite[0].values()))) < 2:
        return [unknown] * len(methods)
    noise = fit(finite, weights, paired=False)
    found = iter(
        _interval(noise, np.eye(len(finite))[index], float(noise.means[index]), confidence)
        for index in range(len(finite))
    )
    return [next(found) if any(seeds is other for other in finite) else unknown for seeds in methods]


def difference(
    base: Seeds,
    other: Seeds,
    weights: np.ndarray | None = None,
    *,
    confidence: float = CONFIDENCE,
    resolution: float = 0.0,
    alike: bool = False,
) -> Interval:
    """The difference of the mean losses of two methods, other - base: unpaired over seeds, paired over sequences.

    With one seed on each side it is the difference of these two runs.

    Args:
        base, other: {seed: (sequences,) mean losses}, finite.
        weights, resolution: see ``prunebench.report.significance.best``.
        confidence: level of the interval.
        alike: whether the seeds of both sides spread alike, as for two versions of one method.
    """
    noise = fit([base, other], weights)
    contrast = np.array([-1.0, 1.0])
    if alike:
        noise = replace(noise, prior=math.inf, pooled=noise.freedom > 0)
    return _interval(noise, contrast, float(noise.means[1] - noise.means[0]), confidence, resolution)


def _interval(noise: Noise, contrast: np.ndarray, value: float, confidence: float, resolution: float = 0.0) -> Interval:
    """The interval of a linear combination of means: Student's, corrected for skewness.

    The degrees of freedom are Welch and Satterthwaite's; the correction is Hall's (J. R. Stat. Soc. B 54, 1992): a
    cubic transformation of the studentised mean.
    """
    squares = np.square(contrast)
    by_seed = squares * noise.seed_variance(noise.own) / noise.seeds
    between = float(by_seed.sum())
    text = float(contrast @ noise.text @ contrast) + resolution
    shared = min(float(squares @ noise.rest), between, text)
    variance = between + text - shared
    if math.isnan(variance):
        return Interval(value, math.nan, math.nan, 1.0)
    if variance <= 0:
        return Interval(value, value, value, float(value == 0))
    pool = max(float((noise.freedom * noise.pooled).sum()), 1.0)
    if math.isinf(noise.prior):
        of_seeds = between**2 / pool
    else:
        freedoms = np.where(noise.freedom > 0, noise.freedom + noise.prior, pool)
        of_seeds = float((np.square(by_seed) / freedoms).sum())
    freedom = variance**2 / (of_seeds + text**2 / noise.text_freedom)
    skew = noise.skewness(contrast) * (text / variance) ** 1.5
    limit = float(stats.t.ppf((1 + confidence) / 2, freedom))
    error = math.sqrt(variance)
    low, high = (value - error * _hall_inverse(end, skew) for end in (limit, -limit))
    p = 2 * float(stats.t.sf(abs(_hall(value / error, skew)), freedom))
    return Interval(value, low, high, p)


def _hall(student: float, skew: float) -> float:
    """Hall's transformation of a studentised mean; ``skew`` is the skewness divided by the root of n."""
    return student + skew * (student**2 / 3 + 1 / 6) + skew**2 * student**3 / 27


def _hall_inverse(value: float, skew: float) -> float:
    if abs(skew) < 1e-6:
        return value
    return 3 / skew * (float(np.cbrt(1 + skew * (value - skew / 6))) - 1)


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval of a share of ``count`` questions (J. Am. Stat. Assoc. 22, 1927)."""
    if count < 1 or math.isnan(share):
        return math.nan, math.nan
    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Benjamini-Hochberg: rejecting those up to q keeps the false discovery rate below q.

    Args:
        p_values: p-values of all tests that are judged together; may be empty.

    Returns:
        The adjusted p-values, in the order given. Benjamini & Hochberg, J. R. Stat. Soc. B 57, 1995.
    """
    return [float(p) for p in stats.false_discovery_control(p_values)] if len(p_values) else []
