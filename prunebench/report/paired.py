"""Losses and answers of records as the statistics take them, and paired changes between records."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from prunebench.records.arrays import Arrays
from prunebench.records.record import Record
from prunebench.report.intervals import CONFIDENCE, Change, difference
from prunebench.report.noise import Seeds

BySeed = Mapping[int, Arrays]


def paired_by_seed(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Pair the records of two sides by seed; a single record is paired with each record of the other side.

    Returns:
        The two sides: of the same length, or one of them of length one; empty if there is nothing to pair.
    """
    if not first or not second:
        return [], []
    if 1 in (len(first), len(second)):
        return list(first), list(second)
    sides = [{record.cell.seed: record for record in side} for side in (first, second)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    return [sides[0][seed] for seed in seeds], [sides[1][seed] for seed in seeds]


def sequence_losses(protocol: str, sides: Sequence[BySeed]) -> tuple[list[Seeds], np.ndarray] | None:
    """The mean losses per token of each sequence, for several methods on one text.

    Args:
        protocol: the perplexity protocol.
        sides: for each method the arrays of its seeds.

    Returns:
        For each method {seed: (sequences,) losses in nats per token}, and the (sequences,) numbers of tokens; None if
        losses are missing or belong to different sequences.
    """
    name = f"perplexity/{protocol}/"
    every = [arrays for side in sides for arrays in side.values()]
    counts = every[0].get(name + "counts") if every else None
    if counts is None or not len(counts) or not (counts > 0).all() or not all(sides):
        return None
    for arrays in every:
        losses, tokens = arrays.get(name + "losses"), arrays.get(name + "counts")
        if losses is None or tokens is None or not np.array_equal(tokens, counts) or losses.shape != counts.shape:
            return None
    return [{seed: arrays[name + "losses"] / counts for seed, arrays in side.items()} for side in sides], counts


def perplexity_change(protocol: str, base: BySeed, other: BySeed, *, alike: bool = True) -> Change | None:
    """The ratio of the perplexity of ``other`` to that of ``base`` on one text, with its interval and test.

    Args:
        protocol: the perplexity protocol.
        base, other: the arrays of each seed. With one seed on each side, the two runs are compared.
        alike: whether both sides are versions of one method, so that their seeds spread alike.

    Returns:
        The change; None if losses are missing or belong to different sequences.
    """
    found = sequence_losses(protocol, (base, other))
    if found is None:
        return None
    (first, second), counts = found
    finite = [all(np.isfinite(losses).all() for losses in side.values()) for side in (first, second)]
    if not all(finite):
        value = math.nan if not any(finite) else math.inf if finite[0] else 0.0
        return Change(value, value, value, 1.0 if not any(finite) else 0.0)
    gap = difference(first, second, counts, alike=alike)
    return Change(_exp_or_inf(gap.value), _exp_or_inf(gap.low), _exp_or_inf(gap.high), gap.p)


def _exp_or_inf(log: float) -> float:
    return math.exp(log) if not log >= 700 else math.inf


def accuracy_change(base: Seeds, other: Seeds, confidence: float = CONFIDENCE, *, alike: bool = True) -> Change:
    """Difference of accuracies on the same questions.

    With one seed on each side, p is that of McNemar's exact test: only questions that the two answer differently count;
    under no difference, either is equally likely to be right.

    Args:
        base, other: {seed: (questions,) 1 where the answer is right}.
        confidence: level of the interval; its variance has one question more answered differently in each direction.
        alike: see ``perplexity_change``.

    Raises:
        ValueError: the two have different numbers of questions.
    """
    shapes = {np.shape(answers) for side in (base, other) for answers in side.values()}
    if len(shapes) > 1:
        raise ValueError(f"not paired: {' and '.join(map(str, sorted(shapes)))}")
    questions = next(iter(shapes))[0]
    gap = difference(base, other, confidence=confidence, resolution=2 / questions**2, alike=alike)
    if len(base) > 1 or len(other) > 1:
        return Change(gap.value, gap.low, gap.high, gap.p)
    (before,), (after,) = base.values(), other.values()
    won, lost = int((after > before).sum()), int((after < before).sum())
    p = float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0
    return Change(gap.value, gap.low, gap.high, p)


def task_answers(task: str, metric: str, sides: Sequence[BySeed]) -> list[Seeds] | None:
    """The answers of several methods to the questions of a task; None if missing or to other questions."""
    found = [{seed: answers(arrays, task, metric) for seed, arrays in side.items()} for side in sides]
    every = [array for side in found for array in side.values()]
    known = [array for array in every if array is not None and len(array)]
    if not known or len(known) < len(every) or len({array.shape for array in known}) > 1 or not all(sides):
        return None
    return [{seed: array for seed, array in side.items() if array is not None} for side in found]


def answers(arrays: Arrays, task: str, metric: str) -> np.ndarray | None:
    """Per-question scores of a task, float (questions,), under the metric's first filter; None if not stored."""
    name = f"zero_shot/{task}/{metric}"
    key = name if name in arrays else next((other for other in arrays if other.startswith(f"{name},")), None)
    return None if key is None else arrays[key]
