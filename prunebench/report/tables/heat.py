"""The first table of a report: methods × sparsities in times the dense model's perplexity, and what they cost."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.budgets import GROUPS, columns_of, group_of
from prunebench.report.grouping import sparsity_order
from prunebench.report.scene import TextScene
from prunebench.report.tables.best import GROUPED_CAPTION, marks_by_group, marks_caption
from prunebench.report.tables.table import Table, caption, seeds_text

COLLAPSED = 10.0
"""Times the dense perplexity, from which on a model says little of its method: shades and plots end there."""


def heat_table(scene: TextScene, array_store: ArrayStore | None = None) -> Table | None:
    """How many times the dense model's perplexity each method has, the best of each kind of training first.

    Args:
        scene: the records.
        array_store: the arrays of the records; without them nothing is marked as best.

    Returns:
        None where the dense model was not measured, or no pruned one was.
    """
    if scene.dense is None or not scene.measured:
        return None
    columns, sorted_by, of_method = scene.sparsities, most_shared(scene), scene.by_method
    groups_of = {method: group_of(records) for method, records in of_method.items()}

    def place(method: str) -> tuple[int, float]:
        value = times_dense(scene, scene.measured.get((method, sorted_by), ()))
        return GROUPS.index(groups_of[method]), math.inf if value is None or math.isnan(value) else value

    rows = sorted(of_method, key=place)
    cells = scene.succeeded().cells
    entries = [[cells.get((method, sparsity), []) for method in rows] for sparsity in columns]
    complete = [  # what competes
        [[] if (method, s) in scene.failed else group for method, group in zip(rows, column, strict=True)]
        for s, column in zip(columns, entries, strict=True)
    ]
    groups = [groups_of[method] for method in rows]
    marked, over_all = marks_by_group(complete, groups, scene.protocol, array_store)
    training = {method: columns_of(records) for method, records in of_method.items()}
    first = 2  # column of the first sparsity
    heat = {
        (row, first + column): _heat(value)
        for column, of_sparsity in enumerate(entries)
        for row, group in enumerate(of_sparsity)
        if (value := times_dense(scene, group)) is not None
    }
    return Table(
        caption(
            f"Times the dense perplexity of {scene.model} on {scene.title} ({text.number(scene.dense)})",
            scene.label,
            f"by training, then by {sorted_by}",
            seeds_text(cells.values()),
            marks_caption(complete, marked=bool(marked | over_all), evidence=array_store is not None),
            GROUPED_CAPTION if over_all else "",
        ),
        ("method", "training", *columns, "trained on", "prune time", "FLOPs"),
        tuple(
            (
                method,
                training[method][0],
                *(_shown(scene, (method, s), column[row]) for s, column in zip(columns, entries, strict=True)),
                training[method][1],
                text.span((r.cost.prune_seconds for r in of_method[method] if r.status == "ok"), text.seconds),
                text.span((_flops(r) for r in of_method[method] if r.status == "ok"), text.count),
            )
            for row, method in enumerate(rows)
        ),
        frozenset((row, first + column) for column, row in marked),
        frozenset((row, first + column) for column, row in over_all),
        heat,
    )


def times_dense(scene: TextScene, group: Sequence[Record]) -> float | None:
    """The mean perplexity of a cell's seeds over the dense model's; None if it was not measured."""
    values = [r.perplexity[scene.protocol].value for r in group if scene.protocol in r.perplexity]
    return statistics.fmean(values) / scene.dense if values and scene.dense else None


def most_shared(scene: TextScene) -> str:
    """The sparsity that most methods were measured at; of several the highest fraction, before any n:m pattern."""
    counts = Counter(sparsity for _, sparsity in scene.cells)
    most = max(counts.values(), default=0)
    shared = [sparsity for sparsity in sparsity_order(counts) if counts[sparsity] == most]
    return next((sparsity for sparsity in reversed(shared) if ":" not in sparsity), shared[-1] if shared else "")


def times_text(value: float) -> str:
    """How many times: 1.04, 12.3, 4100, inf."""
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 1e5 else text.number(value)


def _shown(scene: TextScene, key: tuple[str, str], group: Sequence[Record]) -> str:
    value, failed = times_dense(scene, group), key in scene.failed
    if value is None:
        return text.FAILED if failed else text.MISSING
    return times_text(value) + (f" (a seed {text.FAILED})" if failed else "")


def _heat(value: float) -> float:
    """The shade of an entry: 0 as good as dense, 1 collapsed."""
    if not math.isfinite(value):
        return 1.0
    return min(max(math.log(max(value, 1.0)) / math.log(COLLAPSED), 0.0), 1.0)


def _flops(record: Record) -> float | None:
    known = [effort.flops for effort in record.effort if effort.flops is not None]
    return math.fsum(known) if known and len(known) == len(record.effort) else None
