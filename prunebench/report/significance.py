"""Statistics: confidence intervals over seeds, paired tests, and control of the false discovery rate.

Two results on one text, or on the same questions, are compared *paired*, sequence by sequence or question by question,
so that the difficulty of a sequence cancels in the difference.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9999
MAX_UNITS = 512  # with more sequences than this, groups of neighbours are resampled
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
class Change:
    """A paired difference with its confidence interval and p-value.

    Args:
        value: other / base (perplexity) or other - base (accuracy, a fraction). Infinite or 0 if one side has losses
            that are not finite; NaN if both have.
        low, high: confidence interval of ``value``, over sequences or questions.
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


class PairedBootstrap:
    """Paired bootstrap of perplexity ratios on one text; the same resamples serve every pair of models.

    A resample of perplexity draws whole sequences, with their losses and their tokens, so that it is weighted by tokens
    as the perplexity itself is. Sequences beyond ``MAX_UNITS`` are drawn in groups of neighbours. Percentile intervals:
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        counts: int, (sequences,): predicted tokens of each.
        resamples: number of resamples. If all of them are on one side of no difference, p is the tail of a normal
            distribution with their spread: in a comparison of a thousand cells 2 / (resamples + 1) would be too coarse.
            Either way p is no smaller than a t-test over the sequences and a sign test allow.
        seed: random seed of the resamples.
    """

    def __init__(self, counts: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self._counts = np.asarray(counts)
        units = min(len(self._counts), MAX_UNITS)
        self._starts = np.linspace(0, len(self._counts), units, endpoint=False).astype(int)
        draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
        self._draws = draws.astype(np.float64)
        self._tokens = self._draws @ self._units(self._counts.astype(np.float64))

    def _units(self, values: np.ndarray) -> np.ndarray:
        sums: np.ndarray = np.add.reduceat(values, self._starts)
        return sums

    def ratio(self, base: np.ndarray, other: np.ndarray, confidence: float = CONFIDENCE) -> Change:
        """The ratio of the perplexity of ``other`` to that of ``base``, with its test.

        With several seeds the losses are averaged over them, and the difference must stand out among the sequences
        and, by a paired t-test, among the seeds: p is the larger of the two.

        Args:
            base, other: float, (sequences,) or (seeds, sequences): summed losses in nats. A single seed is compared
                with each seed of the other side.
            confidence: level of the interval.

        Raises:
            ValueError: the two have different numbers of sequences or seeds.
        """
        base, other = _paired(base, other)
        if base.shape[-1] != len(self._counts):
            raise ValueError(f"{base.shape[-1]} losses for {len(self._counts)} sequences")
        if (broken := _change_not_finite(base, other)) is not None:
            return broken
        differences = other - base
        units = self._units(differences.mean(axis=0))
        logs = (self._draws @ units) / self._tokens
        value = units.sum() / self._counts.sum()
        low, high = np.quantile(logs, [(1 - confidence) / 2, (1 + confidence) / 2])
        p = max(_bootstrap_p(logs), _few_units_p(logs, len(units)))
        by_seed = differences.sum(axis=1) / self._counts.sum()
        return Change(_exp_or_inf(value), _exp_or_inf(low), _exp_or_inf(high), max(p, _seeds_t_test(by_seed)))


def _bootstrap_p(logs: np.ndarray) -> float:
    """Two-sided bootstrap p-value: how often a resample is on the other side of no difference."""
    beyond = min(int((logs <= 0).sum()), int((logs >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (len(logs) + 1))
    spread = float(logs.std())
    return p if beyond or spread == 0 else min(p, 2 * float(stats.norm.sf(abs(logs.mean()) / spread)))


def _few_units_p(logs: np.ndarray, units: int) -> float:
    """A lower bound on p for few sequences: the sign test's minimum 2^(1 - n), and a t-test over the sequences."""
    if units < 2:
        return 1.0
    spread = float(logs.std()) * math.sqrt(units / (units - 1))
    tail = 2 * float(stats.t.sf(abs(float(logs.mean())) / spread, units - 1)) if spread > 0 else 0.0
    return max(2.0 ** (1 - units), tail)


def _exp_or_inf(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf


def _change_not_finite(base: np.ndarray, other: np.ndarray) -> Change | None:
    """The change if a side has losses that are not finite: that side is certainly worse. None if all are finite."""
    finite = [bool(np.isfinite(losses).all()) for losses in (base, other)]
    if all(finite):
        return None
    value = math.nan if not any(finite) else math.inf if finite[0] else 0.0
    return Change(value, value, value, 1.0 if not any(finite) else 0.0)


def accuracy_change(base: np.ndarray, other: np.ndarray, confidence: float = CONFIDENCE) -> Change:
    """Difference of accuracies on the same questions, with McNemar's exact test.

    Only questions that the two answer differently count; under no difference, either is equally likely to be right.
    With several seeds a question counts by its mean over them (a sign test), and p is the larger of that and
    of a paired t-test among the seeds.

    Args:
        base, other: float, (questions,) or (seeds, questions): 1 where the answer is right.
        confidence: level of the interval, which assumes a normal mean difference.

    Raises:
        ValueError: the two have different numbers of questions or seeds.
    """
    base, other = _paired(base, other)
    differences = (other - base).mean(axis=0)
    lost, won = int((differences < 0).sum()), int((differences > 0).sum())
    p = float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0
    value, n = float(differences.mean()), len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Change(value, value - half, value + half, max(p, _seeds_t_test((other - base).mean(axis=1))))


def mean_accuracy_change(tasks: Sequence[tuple[np.ndarray, np.ndarray]], confidence: float = CONFIDENCE) -> Change:
    """Difference of the unweighted means of accuracies over tasks, each task's questions paired.

    The questions of different tasks are independent, so that the variances of the mean differences add up; the sum is
    assumed to be normal.

    Args:
        tasks: (base, other) of each task, as in ``accuracy_change``.
        confidence: level of the interval.
    """
    by_task = [other - base for base, other in (_paired(*sides) for sides in tasks)]
    value = float(np.mean([difference.mean() for difference in by_task]))
    estimable = all(difference.shape[1] > 1 for difference in by_task)  # a single question has no variance
    variances = [
        float(difference.mean(axis=0).var(ddof=1)) / difference.shape[1] for difference in by_task if estimable
    ]
    variance = sum(variances) if estimable else math.nan
    error = math.sqrt(variance) / len(by_task)
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    p = 2 * float(stats.norm.sf(abs(value) / error)) if error > 0 else float(value == 0 or math.isnan(error))
    by_seed = np.mean([difference.mean(axis=1) for difference in by_task], axis=0)
    return Change(value, value - half, value + half, max(p, _seeds_t_test(by_seed)))


def _paired(base: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides as float64, (seeds, entries)."""
    first, second = (np.atleast_2d(np.asarray(array, dtype=np.float64)) for array in (base, other))
    if first.shape[1] != second.shape[1] or (len(first) != len(second) and 1 not in (len(first), len(second))):
        raise ValueError(f"not paired: {first.shape} and {second.shape}")
    return first, second


def _seeds_t_test(differences: np.ndarray) -> float:
    """p-value of a paired t-test over seeds; 0 (no objection) for one seed, or if all differ by the same amount."""
    if len(differences) < 2:
        return 0.0
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    mean = abs(float(differences.mean()))
    if error <= 1e-12 * mean or error == 0:
        return 0.0 if mean else 1.0
    return 2 * float(stats.t.sf(mean / error, len(differences) - 1))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Benjamini-Hochberg: rejecting those up to q keeps the false discovery rate below q.

    Args:
        p_values: p-values of all tests that are judged together; may be empty.

    Returns:
        The adjusted p-values, in the order given. Benjamini & Hochberg, J. R. Stat. Soc. B 57, 1995.
    """
    return [float(p) for p in stats.false_discovery_control(p_values)] if len(p_values) else []


def best_and_ties(
    columns: Sequence[Sequence[float]],
    p_value: Callable[[int, int, int], float],
    *,
    higher: bool = False,
    level: float = FALSE_DISCOVERY_RATE,
) -> list[set[int]]:
    """In each column of a table, the best entry and every entry not significantly worse.

    All tests of the table are adjusted together: of the entries said to be worse than the best, a fraction of at most
    ``level`` is expected to be so by noise.

    Args:
        columns: values that compete with each other; NaN for one that does not compete (missing, failed, the dense
            model).
        p_value: (column, best, other) → p-value of their difference; NaN if they cannot be tested, in which case
            nothing in the column is marked.
        higher: whether the highest value is best.
        level: false discovery rate.

    Returns:
        For each column the positions to mark; empty if fewer than two entries compete.
    """
    bests: list[int | None] = []
    tested: list[tuple[int, int]] = []
    p_values: list[float] = []
    for index, column in enumerate(columns):
        finite = [i for i, value in enumerate(column) if math.isfinite(value)]
        competing = len(column) - sum(math.isnan(value) for value in column)
        best = (max if higher else min)(finite, key=column.__getitem__) if competing > 1 and finite else None
        tests = [(other, p_value(index, best, other)) for other in finite if other != best] if best is not None else []
        if any(math.isnan(p) for _, p in tests):
            best, tests = None, []
        bests.append(best)
        tested += [(index, other) for other, _ in tests]
        p_values += [p for _, p in tests]
    marked = [set() if best is None else {best} for best in bests]
    for (index, other), adjusted in zip(tested, benjamini_hochberg(p_values), strict=True):
        if adjusted > level:
            marked[index].add(other)
    return marked
