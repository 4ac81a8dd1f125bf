"""Tables of the overlap of masks, between seeds of one method and between methods."""

import statistics
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE
from prunebench.report.paired import paired_by_seed
from prunebench.report.scene import Scene
from prunebench.report.tables.table import Table, caption

MASK = "mask"
MAX_SEEDS = 32


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Jaccard index of two masks: weights kept by both, as a fraction of those kept by either.

    Args:
        first, second: uint8, (bytes,): masks of the same weights as packed bits, 1 = kept.

    Raises:
        ValueError: the masks have different sizes.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks of {first.shape} and {second.shape} bytes are not of the same weights")
    both, either = (int(np.unpackbits(bits).sum()) for bits in (first & second, first | second))
    return both / either if either else 1.0


def expected_by_chance(ratio: float) -> float:
    """Expected overlap of two independent masks with a fraction ``ratio`` of zeros: d² / (2d - d²), d = 1 - ratio."""
    density = 1 - ratio
    return density / (2 - density)


def overlap_tables(scenes: Sequence[Scene], array_store: ArrayStore | None) -> list[Table]:
    """For each scene, the mean overlap of each pair of methods and of each pair of seeds of one method.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
        array_store: the arrays of the records.
    """
    return [] if array_store is None else [_table(scene, array_store) for scene in scenes]


def _table(scene: Scene, array_store: ArrayStore) -> Table:
    masked = scene.where(lambda r: r.cell.sparsity != DENSE and r.status == "ok" and MASK in array_store.read(r))
    cells, columns, methods = masked.cells, masked.sparsities, masked.by_method
    rows = []
    for pair in [*((name, name) for name in methods), *combinations(methods, 2)]:
        entries = [
            _mean_overlap(cells.get((pair[0], s), []), cells.get((pair[1], s), []), array_store) for s in columns
        ]
        if set(entries) != {text.MISSING}:
            rows.append((pair[0], "itself, other seeds" if pair[0] == pair[1] else pair[1], *entries))
    if rows:
        ratios = {r.cell.sparsity: r.sparsity.requested for r in masked.pruned_records if r.sparsity is not None}
        chances = (f"{expected_by_chance(ratios[s]):.2f}" if s in ratios else text.MISSING for s in columns)
        rows.append(("by chance", "", *chances))
    return Table(
        caption(
            f"Overlap of masks of {scene.model}: kept by both / kept by either",
            scene.description,
            "from a sample of rows",
        ),
        ("masks of", "and of", *columns),
        tuple(rows),
    )


def _mean_overlap(first: Sequence[Record], second: Sequence[Record], array_store: ArrayStore) -> str:
    """Mean overlap over pairs of seeds of one method (if both sides are the same), else over common seeds.

    At most ``MAX_SEEDS`` seeds of one method are paired: 500 seeds would make 124,750 pairs.
    A method with a single seed is paired with every seed of the other.
    """
    pairs = combinations(first[:MAX_SEEDS], 2) if first is second else zip(*_broadcast(first, second), strict=True)
    masks = [(array_store.read(a)[MASK], array_store.read(b)[MASK]) for a, b in pairs]
    values = [jaccard(a, b) for a, b in masks if a.shape == b.shape]
    return f"{statistics.fmean(values):.2f}" if values else text.MISSING


def _broadcast(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    sides = paired_by_seed(first, second)
    longest = max(len(side) for side in sides)
    return sides[0] * (longest // max(1, len(sides[0]))), sides[1] * (longest // max(1, len(sides[1])))
