"""Perplexity tables: methods × sparsities."""

import math
import statistics
from collections.abc import Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.budgets import HEADERS, by_group, columns_of, group_of
from prunebench.report.grouping import DENSE
from prunebench.report.reached import reached_caption
from prunebench.report.scene import TextScene
from prunebench.report.tables.best import GROUPED_CAPTION, marks_by_group, marks_caption
from prunebench.report.tables.table import Table, caption, seeds_text
from prunebench.report.tuning import tuning_caption


def perplexity_tables(scenes: Sequence[TextScene], array_store: ArrayStore | None = None) -> list[Table]:
    """Perplexity of methods × sparsities, one table for each scene; the dense model is in the caption.

    Rows tell how much a method trained, and those that trained alike stand together; the best is marked among them, and
    once more over all.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.texts``.
        array_store: the arrays of the records; without them nothing is marked as best.
    """
    return [_table(scene, array_store) for scene in scenes]


def _table(scene: TextScene, array_store: ArrayStore | None) -> Table:
    cells, columns = scene.cells or scene.rows, scene.sparsities or [DENSE]
    of_method = scene.by_method or scene.baselines
    dense = [f"{name} {mean_over_seeds(seeds, scene.protocol)}" for name, seeds in scene.baselines.items()]
    methods = list(of_method)
    methods = [methods[row] for row in by_group([group_of(seeds) for seeds in of_method.values()])]
    groups = [group_of(of_method[method]) for method in methods]
    entries = [[cells.get((method, sparsity), []) for method in methods] for sparsity in columns]
    marked, over_all = marks_by_group(entries, groups, scene.protocol, array_store)
    return Table(
        caption(
            f"Perplexity of {scene.model} on {scene.title}",
            ", ".join(dense) or "the dense model was not measured",
            scene.description,
            seeds_text(cells.values(), "standard deviation"),
            tuning_caption(scene.records),
            reached_caption(cells),
            marks_caption(entries, marked=bool(marked | over_all), evidence=array_store is not None),
            GROUPED_CAPTION if over_all else "",
        ),
        ("method", *HEADERS, *columns),
        tuple(
            (
                method,
                *columns_of(of_method[method]),
                *(mean_over_seeds(column[row], scene.protocol) for column in entries),
            )
            for row, method in enumerate(methods)
        ),
        frozenset((row, 1 + len(HEADERS) + column) for column, row in marked),
        frozenset((row, 1 + len(HEADERS) + column) for column, row in over_all),
    )


def mean_over_seeds(records: Sequence[Record], protocol: str) -> str:
    """Mean ± standard deviation over seeds as text; failed seeds are mentioned, not averaged away."""
    values = [r.perplexity[protocol].value for r in records if r.status == "ok" and protocol in r.perplexity]
    failed = sum(record.status == "failed" for record in records)
    if not values:
        return text.FAILED if failed else text.MISSING
    mean = statistics.fmean(values)
    shown = text.number(mean)
    if len(values) > 1 and math.isfinite(mean):
        shown += f" ± {text.number(statistics.stdev(values), like=mean)}"
    return f"{shown} ({failed} {text.FAILED})" if failed else shown
