"""What lies beside the records: per-sequence losses, per-question answers, masks; and paired tests on them."""

from collections.abc import Sequence

import numpy as np

from prunebench.records.arrays import Arrays
from prunebench.records.record import Record
from prunebench.report.significance import Change, PairedBootstrap, accuracy_change, mean_accuracy_change


def paired_by_seed(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Records of the seeds that both sides have; a side of one record is paired with each of the other's.

    Returns:
        The two sides, as long as each other or one of them of length one; empty where there is nothing to pair.
    """
    if not first or not second:
        return [], []
    if 1 in (len(first), len(second)):
        return list(first), list(second)
    sides = [{record.cell.seed: record for record in side} for side in (first, second)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    return [sides[0][seed] for seed in seeds], [sides[1][seed] for seed in seeds]


class PairedTests:
    """Paired tests on kept arrays; the resamples of a text are drawn once."""

    def __init__(self) -> None:
        self._bootstraps: dict[bytes, PairedBootstrap] = {}

    def perplexity(self, protocol: str, base: Sequence[Arrays], other: Sequence[Arrays]) -> Change | None:
        """``other`` against ``base`` on one text.

        Args:
            protocol: of the perplexity.
            base, other: of each seed, paired; see ``paired_by_seed``.

        Returns:
            None where the losses were not kept or are of other sequences.
        """
        name = f"perplexity/{protocol}/"
        everything = [arrays.get(name + "counts") for arrays in (*base, *other)]
        counts = everything[0] if everything else None
        if counts is None or any(found is None or not np.array_equal(found, counts) for found in everything):
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
        """``other`` against ``base`` on the questions of one task; None where no answers were kept, or of others."""
        sides = self._answers(task, metric, base, other)
        return None if sides is None else accuracy_change(*sides)

    def mean_accuracy(
        self, tasks: Sequence[tuple[str, str]], base: Sequence[Arrays], other: Sequence[Arrays]
    ) -> Change | None:
        """The unweighted mean over (task, metric) pairs; None where some answers were not kept."""
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
    """Per question, how right the answer was; of a metric with filters under the first one. None if not kept."""
    name = f"zero_shot/{task}/{metric}"
    key = name if name in arrays else next((other for other in arrays if other.startswith(f"{name},")), None)
    return None if key is None else arrays[key]


def _stacked(side: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """(seeds, entries); None where one is missing or of another length."""
    found = [array for array in side if array is not None]
    alike = found and len(found) == len(side) and len({len(array) for array in found}) == 1
    return np.stack(found) if alike else None
