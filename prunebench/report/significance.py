"""What is a difference and what is noise: seeds, paired comparisons, false discoveries.

Two results on one text, or on the same questions, are compared *paired*, sequence by sequence or question by question:
what makes a sequence hard for both falls out of the difference.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 9999
MAX_UNITS = 512  # sequences beyond so many are resampled in groups of neighbours
CONFIDENCE = 0.95
FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True)
class Summary:
    """Values over seeds.

    Args:
        n: how many there are.
        mean: of all; not finite where one is not.
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
    """A paired difference.

    Args:
        value: other / base (perplexity) or other - base (accuracy, a fraction). Infinite, or 0, where one side's loss
            is not finite; NaN where both are.
        low, high: confidence interval of ``value``, over sequences or questions.
        p: two-sided probability of a difference this large where there is none.
    """

    value: float
    low: float
    high: float
    p: float


def over_seeds(values: Sequence[float], confidence: float = CONFIDENCE) -> Summary:
    """Mean, spread and confidence interval of values that differ by their seed.

    Args:
        values: at least one.
        confidence: of the interval.
    """
    array = np.asarray(values, dtype=np.float64)
    n, mean = len(array), float(array.mean())
    if n < 2 or not np.isfinite(array).all():
        return Summary(n, mean, math.nan, math.nan, math.nan)
    spread = float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)
    return Summary(n, mean, spread, mean - half, mean + half)


class PairedBootstrap:
    """Ratios of perplexities on one text, by resampling its sequences; the same resamples serve every pair.

    A resample of perplexity draws whole sequences, with their losses and their tokens, so that it is weighted by tokens
    as the perplexity itself is. Sequences beyond ``MAX_UNITS`` are drawn in groups of neighbours. Percentile intervals:
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        counts: int, (sequences,): predicted tokens of each.
        resamples: how many are drawn. Where none of them is beyond no difference, p is the tail of a normal
            distribution of their spread: in a comparison of a thousand cells 2 / (resamples + 1) would say nothing.
            Either way p is no smaller than a t-test over the sequences and a test of their signs allow.
        seed: of the draws; the same seed gives the same answer.
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
        """Perplexity of ``other`` over that of ``base``.

        With several seeds the losses are averaged over them, and the difference must stand out among the sequences
        and, by a paired t-test, among the seeds: p is the larger of the two.

        Args:
            base, other: float, (sequences,) or (seeds, sequences): summed losses in nats. One seed is compared with
                each of the other side's.
            confidence: of the interval.

        Raises:
            ValueError: they are not paired: other numbers of sequences, or of seeds.
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
    """Two-sided: how often a resample is on the other side of no difference."""
    beyond = min(int((logs <= 0).sum()), int((logs >= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (len(logs) + 1))
    spread = float(logs.std())
    return p if beyond or spread == 0 else min(p, 2 * float(stats.norm.sf(abs(logs.mean()) / spread)))


def _few_units_p(logs: np.ndarray, units: int) -> float:
    """A handful of sequences proves little: no test of n signs is below 2^(1 - n), and their spread is a guess."""
    if units < 2:
        return 1.0
    spread = float(logs.std()) * math.sqrt(units / (units - 1))
    tail = 2 * float(stats.t.sf(abs(float(logs.mean())) / spread, units - 1)) if spread > 0 else 0.0
    return max(2.0 ** (1 - units), tail)


def _exp_or_inf(log: float) -> float:
    return math.exp(log) if log < 700 else math.inf


def _change_not_finite(base: np.ndarray, other: np.ndarray) -> Change | None:
    """A model that is broken is worse than one that is not, however little is known of by how much."""
    whole = [bool(np.isfinite(losses).all()) for losses in (base, other)]
    if all(whole):
        return None
    value = math.nan if not any(whole) else math.inf if whole[0] else 0.0
    return Change(value, value, value, 1.0 if not any(whole) else 0.0)


def accuracy_change(base: np.ndarray, other: np.ndarray, confidence: float = CONFIDENCE) -> Change:
    """Difference of accuracies on the same questions, with McNemar's exact test.

    Only questions that the two answer differently tell anything; where there is no difference, either is as likely to
    be right. With several seeds a question counts by its mean over them (a sign test), and p is the larger of that and
    of a paired t-test among the seeds.

    Args:
        base, other: float, (questions,) or (seeds, questions): 1 where the answer is right.
        confidence: of the interval, which takes the mean difference for normal.

    Raises:
        ValueError: they are not paired: other numbers of questions, or of seeds.
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

    The tasks' questions being independent, the variances of their mean differences add up; the sum is taken for normal.

    Args:
        tasks: (base, other) of each, as in ``accuracy_change``.
        confidence: of the interval.
    """
    by_task = [other - base for base, other in (_paired(*sides) for sides in tasks)]
    value = float(np.mean([difference.mean() for difference in by_task]))
    many = all(difference.shape[1] > 1 for difference in by_task)  # a single question says nothing of its variance
    variances = [float(difference.mean(axis=0).var(ddof=1)) / difference.shape[1] for difference in by_task if many]
    variance = sum(variances) if many else math.nan
    error = math.sqrt(variance) / len(by_task)
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    p = 2 * float(stats.norm.sf(abs(value) / error)) if error > 0 else float(value == 0 or math.isnan(error))
    by_seed = np.mean([difference.mean(axis=1) for difference in by_task], axis=0)
    return Change(value, value - half, value + half, max(p, _seeds_t_test(by_seed)))


def _paired(base: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, (seeds, entries)."""
    first, second = (np.atleast_2d(np.asarray(array, dtype=np.float64)) for array in (base, other))
    if first.shape[1] != second.shape[1] or (len(first) != len(second) and 1 not in (len(first), len(second))):
        raise ValueError(f"not paired: {first.shape} and {second.shape}")
    return first, second


def _seeds_t_test(differences: np.ndarray) -> float:
    """Paired t-test over seeds; 0 (no objection) for a single seed, or where all differ by the very same amount."""
    if len(differences) < 2:
        return 0.0
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    mean = abs(float(differences.mean()))
    if error <= 1e-12 * mean or error == 0:
        return 0.0 if mean else 1.0
    return 2 * float(stats.t.sf(mean / error, len(differences) - 1))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: rejecting those up to q keeps the false share of rejections below q.

    Args:
        p_values: of the tests that are looked at together; possibly none.

    Returns:
        One for each, in the order given. Benjamini & Hochberg, J. R. Stat. Soc. B 57, 1995.
    """
    return [float(p) for p in stats.false_discovery_control(p_values)] if len(p_values) else []


def best_and_ties(
    columns: Sequence[Sequence[float]],
    p_value: Callable[[int, int, int], float],
    *,
    higher: bool = False,
    level: float = FALSE_DISCOVERY_RATE,
) -> list[set[int]]:
    """In each column of a table its best entry and every one that cannot be told from it.

    All tests of the table are adjusted together, so that of the entries said to be worse than the best a share of
    ``level`` at most is expected to be so by noise.

    Args:
        columns: entries that compete with each other; NaN for one that does not compete (missing, failed, the dense
            model).
        p_value: (column, best, other) → probability of their difference under no difference; NaN where they cannot be
            tested, which calls the column off.
        higher: whether the highest is best.
        level: of false discoveries.

    Returns:
        Positions to mark, a set for each column; empty where fewer than two compete.
    """
    bests: list[int | None] = []
    tested: list[tuple[int, int]] = []
    p_values: list[float] = []
    for place, column in enumerate(columns):
        finite = [i for i, value in enumerate(column) if math.isfinite(value)]
        competing = len(column) - sum(math.isnan(value) for value in column)
        best = (max if higher else min)(finite, key=column.__getitem__) if competing > 1 and finite else None
        found = [(other, p_value(place, best, other)) for other in finite if other != best] if best is not None else []
        if any(math.isnan(p) for _, p in found):
            best, found = None, []
        bests.append(best)
        tested += [(place, other) for other, _ in found]
        p_values += [p for _, p in found]
    marked = [set() if best is None else {best} for best in bests]
    for (place, other), adjusted in zip(tested, benjamini_hochberg(p_values), strict=True):
        if adjusted > level:
            marked[place].add(other)
    return marked
