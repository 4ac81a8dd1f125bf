"""The two levels of noise in the losses of a table: between seeds, and between the sequences of a text.

The loss of method m with seed s on sequence i is taken to be θ(m) + A(i) + B(m, s) + C(m, i) + D(m, s, i): the mean,
the difficulty of the sequence, which cancels between methods, the effect of the seed, what the sequence adds for this
method, and the rest. ``fit`` estimates the variances, which ``significance`` and ``intervals`` use alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

MOST_AUTOCORRELATION = 0.9  # more cannot be told from a trend
COVERED = 0.8  # the share of the variance of the mean that blocks of sequences must hold before they are corrected
FEWEST_BLOCKS = 5
NEAR = math.log(2)  # methods with at most twice the lowest perplexity share their seed variance
MOST_PRIOR = 100.0  # the pool counts for at most this many degrees of freedom of a method's own variance

Seeds = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Noise:
    """The estimates for methods with finite losses.

    Args:
        means: (methods,): mean loss over seeds and sequences.
        seeds: (methods,): number of seeds.
        own: (methods,): variance between the means of the seeds; 0 where there is one seed, or for a deterministic
            method.
        freedom: (methods,): its degrees of freedom, seeds - 1; 0 where ``own`` is 0 by definition.
        random: (methods,): whether the method has a seed effect: False if all of its seeds have identical losses.
        pooled: (methods,): whether the method's variance enters the pool.
        prior: weight of the pool, in degrees of freedom, in the seed variance of each method.
        text: (methods, methods): covariance over sequences of the mean losses, seeds averaged.
        text_freedom: degrees of freedom of ``text``.
        rest: (methods,): the part of the seed variance of the mean, D, that is also part of ``text``.
        autocorrelation: of the differences between methods over neighbouring sequences, as assumed: an upper estimate.
        totals: (methods, blocks): sums of the weighted deviations of each block of sequences from the mean.
    """

    means: np.ndarray
    seeds: np.ndarray
    own: np.ndarray
    freedom: np.ndarray
    random: np.ndarray
    pooled: np.ndarray
    prior: float
    text: np.ndarray
    text_freedom: float
    rest: np.ndarray
    autocorrelation: float
    totals: np.ndarray

    def skewness(self, contrast: np.ndarray) -> float:
        """The skewness of a linear combination of the methods over blocks, divided by the root of their number."""
        values = contrast @ self.totals
        blocks, spread = len(values), float(values.std(ddof=1))
        if blocks < 3 or spread == 0:
            return 0.0
        return float((values**3).sum()) * blocks / ((blocks - 1) * (blocks - 2)) / spread**3 / math.sqrt(blocks)

    def seed_variance(self, own: np.ndarray, prior: float | None = None) -> np.ndarray:
        """The variance between seeds of each method: its own, drawn to that of the pool.

        Args:
            own: (..., methods): each method's own estimates; those of this table or simulated ones.
            prior: weight of the pool, in degrees of freedom; None: the fitted one.

        Returns:
            (..., methods): (prior · pool + freedom · own) / (prior + freedom), the posterior under a scaled inverse χ²
            prior (Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004); the pool for one seed; 0 for a deterministic method.
        """
        prior = self.prior if prior is None else prior
        weights = self.freedom * self.pooled
        pool = (own * weights).sum(-1, keepdims=True) / max(float(weights.sum()), 1.0)
        share = 1.0 if math.isinf(prior) else prior / np.maximum(prior + self.freedom, 1e-9)
        drawn = share * pool + (1 - share) * own
        variance: np.ndarray = np.where(self.random, np.where(self.freedom > 0, drawn, pool), 0.0)
        return variance


def fit(methods: Sequence[Seeds], weights: np.ndarray | None = None, *, paired: bool = True) -> Noise:
    """Estimate the noise of several methods on one text.

    Args:
        methods: for each method {seed: (sequences,) mean losses}, finite. A single sequence has NaN for variance.
        weights: (sequences,): weight of each sequence, such as its number of tokens; None: all alike.
        paired: whether the autocorrelation is measured on differences from the method with the lowest mean; if not, or
            with one method alone, on the losses themselves.
    """
    stacks = [np.stack([np.asarray(array, dtype=np.float64) for array in seeds.values()]) for seeds in methods]
    count = stacks[0].shape[1]
    weight = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    weight = weight * (count / weight.sum())
    by_seed = [stack @ weight / count for stack in stacks]
    means = np.array([values.mean() for values in by_seed])
    deviations = np.stack([weight * (stack.mean(axis=0) - mean) for stack, mean in zip(stacks, means, strict=True)])
    random = np.array([len(stack) == 1 or bool((stack != stack[0]).any()) for stack in stacks])
    freedom = np.where(random, [len(stack) - 1.0 for stack in stacks], 0.0)
    own = np.array([values.var(ddof=1) if len(values) > 1 else 0.0 for values in by_seed]) * random
    pooled = (freedom > 0) & (means <= means.min() + NEAR)
    contrasts = deviations - deviations[means.argmin()] if paired and len(methods) > 1 else deviations
    correlation = _autocorrelation(contrasts)
    starts, factor, text_freedom = _blocks(count, correlation)
    totals = np.add.reduceat(deviations, starts, axis=1)
    scale = factor * len(starts) / (len(starts) - 1) / count**2 if count > 1 else math.nan
    return Noise(
        means=means,
        seeds=np.array([float(len(stack)) for stack in stacks]),
        own=own,
        freedom=freedom,
        random=random,
        pooled=pooled,
        prior=_prior(own[pooled], freedom[pooled]),
        text=scale * totals @ totals.T,
        text_freedom=text_freedom,
        rest=np.array([scale * _rest(weight * stack, starts) for stack in stacks]),
        autocorrelation=correlation,
        totals=totals,
    )


def _rest(losses: np.ndarray, starts: np.ndarray) -> float:
    """Sum of squares over blocks of what neither the seed nor the sequence explains, for the mean over the seeds."""
    seeds = len(losses)
    if seeds == 1:
        return 0.0
    residuals = losses - losses.mean(axis=0)
    residuals -= residuals.mean(axis=1, keepdims=True)
    return float(np.square(np.add.reduceat(residuals, starts, axis=1)).sum()) / (seeds - 1) / seeds


def _prior(own: np.ndarray, freedom: np.ndarray) -> float:
    """Degrees of freedom that the pool is worth, from how much the variances of its methods differ.

    The logarithms of n sample variances have the variance trigamma(freedom / 2) by themselves, and trigamma(prior / 2)
    in addition if the true ones have a scaled inverse χ² distribution (Smyth, 2004). The result is no more than
    (n - 2) · freedom²: few variances, or variances from few seeds, say little about how much the true ones differ.
    """
    most = min(MOST_PRIOR, (len(own) - 2) * float(np.square(freedom).mean())) if len(own) > 2 else 0.0
    if most <= 0:
        return 0.0
    logs = np.log(np.maximum(own, np.finfo(float).tiny))
    excess = float(logs.var(ddof=1) - special.polygamma(1, freedom / 2).mean())
    candidates = np.geomspace(0.1, max(most, 0.2), 64)
    fitting = candidates[special.polygamma(1, candidates / 2) >= excess]
    return float(fitting.max()) if len(fitting) else 0.0


def _autocorrelation(deviations: np.ndarray) -> float:
    """An upper estimate of the correlation of neighbours: mean over the rows, one standard error added.

    A row that stands out by two standard errors counts by itself. The estimate from n values is too low by about
    (1 + 3ρ) / n (Kendall, Biometrika 41, 1954), which is corrected.
    """
    count = deviations.shape[1]
    squares = np.square(deviations).sum(axis=1)
    rows = deviations[squares > 1e-20 * max(float(squares.max(initial=0.0)), 1e-280)]
    if not len(rows) or count < 2:
        return 0.0
    measured = (rows[:, 1:] * rows[:, :-1]).sum(axis=1) / np.square(rows).sum(axis=1)
    corrected = (count * measured + 1) / max(count - 3, 2)
    error = 1 / math.sqrt(count)
    estimate = max(float(corrected.mean()), float(corrected.max()) - 2 * error) + error
    return min(max(estimate, 0.0), MOST_AUTOCORRELATION)


def _blocks(count: int, correlation: float) -> tuple[np.ndarray, float, float]:
    """Cut a text into blocks of neighbouring sequences that are nearly independent.

    Args:
        count: number of sequences.
        correlation: of neighbours, as in a first-order autoregressive process.

    Returns:
        The first sequence of each block; the factor by which the variance estimated from the blocks is too small under
        such a process; its degrees of freedom.
    """

    if count < 2:
        return np.zeros(1, dtype=int), 1.0, 1.0

    def variance(length: int) -> float:  # of the mean of so many neighbours, in units of that of one
        lags = np.arange(1, length)
        return float(1 + 2 * ((1 - lags / length) * correlation**lags).sum()) / length

    whole = variance(count)
    most = max(1, count // FEWEST_BLOCKS)
    length = 1
    while length < most and length * variance(length) < COVERED * count * whole:
        length += 1
    blocks = count // length
    starts = np.linspace(0, count, blocks, endpoint=False).astype(int)
    within = variance(length)
    factor = whole * (blocks - 1) / (within - whole)
    left = 2 * variance(2 * length) / within - 1  # correlation of neighbouring blocks
    return starts, max(factor, 1.0), max(1.0, (blocks - 1) * (1 - left**2) / (1 + left**2))
