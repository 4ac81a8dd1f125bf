"""Paired tests between records, on their per-sequence losses and per-question answers."""

from collections.abc import Sequence

import numpy as np

from prunebench.records.arrays import Arrays
from prunebench.records.record import Record
from prunebench.report.significance import Change, PairedBootstrap, accuracy_change, mean_accuracy_change


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


class PairedTests:
    """Paired tests on stored arrays; the bootstrap resamples of each text are drawn once and reused."""

    def __init__(self) -> None:
        self._bootstraps: dict[bytes, PairedBootstrap] = {}

    def perplexity(self, protocol: str, base: Sequence[Arrays], other: Sequence[Arrays]) -> Change | None:
        """Compare the perplexity of ``other`` with that of ``base`` on one text.

        Args:
            protocol: the perplexity protocol.
            base, other: the arrays of each seed, paired; see ``paired_by_seed``.

        Returns:
            The change; None if losses are missing or belong to different sequences.
        """
        name = f"perplexity/{protocol}/"
        all_counts = [arrays.get(name + "counts") for arrays in (*base, *other)]
        counts = all_counts[0] if all_counts else None
        if counts is None or any(array is None or not np.array_equal(array, counts) for array in all_counts):
            return None
        if not (counts > 0).all():
            return None
        first, second = (_stacked([arrays.get(name + "losses") for arrays in side]) for side in (base, other))
        if first is None or second is None or {first.shape[1], second.shape[1]} != {len(counts)}:
            return None
        key = counts.tobytes()
        if key not in self._bootstraps:
            self._bootstraps[key] = PairedBootstrap(counts)
        return self._bootstraps[key].ratio(first, second)

    def accuracy(self, task: str, metric: str, base: Sequence[Arrays], other: Sequence[Arrays]) -> Change | None:
        """Compare the accuracy of one task; None if answers are missing or belong to different questions."""
        sides = self._answers(task, metric, base, other)
        return None if sides is None else accuracy_change(*sides)

    def mean_accuracy(
        self, tasks: Sequence[tuple[str, str]], base: Sequence[Arrays], other: Sequence[Arrays]
    ) -> Change | None:
        """Compare the unweighted mean accuracy over (task, metric) pairs; None if any answers are missing."""
        sides = [self._answers(task, metric, base, other) for task, metric in tasks]
        known = [side for side in sides if side is not None]
        return mean_accuracy_change(known) if known and len(known) == len(sides) else None

    def _answers(
        self, task: str, metric: str, base: Sequence[Arrays], other: Sequence[Arrays]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        first, second = (_stacked([answers(arrays, task, metric) for arrays in side]) for side in (base, other))
        if first is None or second is None or first.shape[1] != second.shape[1]:
            return None
        return first, second


def answers(arrays: Arrays, task: str, metric: str) -> np.ndarray | None:
    """Per-question scores of a task, float (questions,), under the metric's first filter; None if not stored."""
    name = f"zero_shot/{task}/{metric}"
    key = name if name in arrays else next((other for other in arrays if other.startswith(f"{name},")), None)
    return None if key is None else arrays[key]


def _stacked(side: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Stack arrays to (seeds, entries); None if one is missing or has another length."""
    present = [array for array in side if array is not None]
    same_length = present and len(present) == len(side) and len({len(array) for array in present}) == 1
    return np.stack(present) if same_length else None
