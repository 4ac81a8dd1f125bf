"""Zero-shot tables, from lm-eval's own results."""

import math
from collections.abc import Iterable, Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.cell_facts import task_titles
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE
from prunebench.report.scene import Scene
from prunebench.report.tables.best import best_accuracies, chance_of, marks_caption
from prunebench.report.tables.scores import Column, Score, mean_over_seeds, mean_over_tasks, scores
from prunebench.report.tables.table import Table, caption, seeds_text
from prunebench.report.tuning import tuning_caption


def zero_shot_tables(scenes: Sequence[Scene], array_store: ArrayStore | None = None) -> list[Table]:
    """Methods and sparsities × tasks, with standard errors and the unweighted mean; the dense model comes first.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.tasks``.
        array_store: the arrays of the records; without them nothing is marked as best.
    """
    tables = [_table(scene, array_store) for scene in scenes]
    return [table for table in tables if table.headers[2:]]


def _table(scene: Scene, array_store: ArrayStore | None) -> Table:
    rows = scene.rows
    columns = list(dict.fromkeys(column for record in scene.records for column in scores(record)))
    columns = columns or [Column(task, "acc", "", "", "") for task in _skipped_tasks(scene.records)]
    shares = [column for column in columns if column.share]
    contests = [[column] if column.share else [] for column in columns] + ([shares] if len(shares) > 1 else [])
    marked = best_accuracies(
        [
            [_comparable_seeds(group, sparsity, compared) for (_, sparsity), group in rows.items()]
            for compared in contests
        ],
        [sparsity for _, sparsity in rows],
        [[(column.task, column.metric) for column in compared] for compared in contests],
        array_store,
    )
    chance = _chance_row(scene.records, columns, shares)
    by_sparsity = [
        [group for (_, other), group in rows.items() if other == sparsity]
        for sparsity in dict.fromkeys(sparsity for _, sparsity in rows)
        if sparsity != DENSE
    ]
    return Table(
        caption(
            f"Zero-shot tasks of {scene.model}: accuracy in percent (95 % interval)",
            scene.description,
            seeds_text(rows.values()),
            tuning_caption(scene.records),
            marks_caption(by_sparsity, marked=bool(marked), evidence=array_store is not None),
            "methods that are not above chance are not marked" if chance else "",
        ),
        ("method", "sparsity", *(column.header(columns) for column in columns), *(["mean"] if len(shares) > 1 else [])),
        (*(tuple((*key, *_entries(group, columns, shares)) for key, group in rows.items())), *chance),
        frozenset((row, 2 + column) for column, row in marked),
    )


def _chance_row(
    records: Sequence[Record], columns: Sequence[Column], shares: Sequence[Column]
) -> tuple[tuple[str, ...], ...]:
    """A row with the accuracy of guessing, where it is known of a task; else none."""
    known = [chance_of(records, [column.task]) if column.share else None for column in columns]
    if all(share is None for share in known):
        return ()
    if len(shares) > 1:
        known.append(chance_of(records, [column.task for column in shares]))
    return (("chance", "", *(text.MISSING if share is None else f"{100 * share:.1f}" for share in known)),)


def _comparable_seeds(group: list[Record], sparsity: str, columns: Sequence[Column]) -> list[Record]:
    """The records of the seeds if each has all the columns, else none: other shots or questions cannot be compared."""
    return group if sparsity != DENSE and all(set(columns) <= set(scores(record)) for record in group) else []


def _entries(records: Sequence[Record], columns: Sequence[Column], shares: Sequence[Column]) -> list[str]:
    """The entries of one row; without a mean if a task is missing, because it could not be compared."""
    width = len(columns) + (len(shares) > 1)
    measured = mean_over_seeds([scores(record) for record in records if record.status == "ok"])
    if not measured:
        return [text.FAILED if any(record.status == "failed" for record in records) else text.MISSING] * width
    entries = [_entry(measured.get(column), share=column.share) for column in columns]
    if len(shares) > 1:
        complete = all(column in measured for column in shares)
        entries.append(
            _entry(mean_over_tasks([measured[column] for column in shares]) if complete else None, share=True)
        )
    return entries


def _skipped_tasks(records: Iterable[Record]) -> list[str]:
    """Requested tasks without results, such as of a model that is never in memory as a whole."""
    ok = [record for record in records if record.status == "ok"]
    return list(
        dict.fromkeys(task for record in ok for asked in record.cell.evaluations for task in task_titles(asked))
    )


def _entry(score: Score | None, *, share: bool) -> str:
    if score is None:
        return text.MISSING
    if not share:
        spread = "" if score.stderr is None else f" ± {text.number(score.stderr, like=score.value)}"
        return text.number(score.value) + spread
    spread = "" if math.isnan(score.low) else f" ({100 * score.low:.1f}–{100 * score.high:.1f})"
    return f"{100 * score.value:.1f}{spread}"
