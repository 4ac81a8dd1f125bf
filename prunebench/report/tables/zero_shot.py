"""Zero-shot tables, from lm-eval's own results."""

import math
from collections.abc import Iterable, Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.cell_facts import task_titles
from prunebench.records.record import Record
from prunebench.report.grouping import (
    DENSE,
    Setting,
    baselines_of,
    group_by,
    method_order,
    records_by_setting,
    sparsity_order,
)
from prunebench.report.tables.best import best_accuracies, chance_of, marks_caption
from prunebench.report.tables.scores import Column, Score, mean_over_seeds, mean_over_tasks, scores
from prunebench.report.tables.table import Table, caption, seeds_text
from prunebench.report.tuning import tuning_caption


def zero_shot_tables(
    records: Sequence[Record], order: Sequence[str] = (), array_store: ArrayStore | None = None
) -> list[Table]:
    """Methods and sparsities × tasks, with standard errors and the unweighted mean; the dense model comes first.

    Args:
        records: records of one model.
        order: methods in the order to show them; the rest follow by name.
        array_store: the arrays of the records; without them nothing is marked as best.
    """
    with_zero_shot = [record for record in records if _has_zero_shot(record)]
    groups = records_by_setting(with_zero_shot)
    tables = [_table(setting, groups, with_zero_shot, order, array_store) for setting in groups]
    return [table for table in tables if table.headers[2:]]


def _table(
    setting: Setting,
    groups: dict[Setting, list[Record]],
    with_zero_shot: Sequence[Record],
    order: Sequence[str],
    array_store: ArrayStore | None,
) -> Table:
    base = baselines_of(with_zero_shot, setting)
    pruned = [record for record in groups[setting] if record.cell.method not in base]
    cells = group_by(pruned, lambda record: (record.cell.method, record.cell.sparsity))
    rows = {(method, DENSE): [base[method]] for method in method_order(base.values(), order)}
    for method in method_order(pruned, order):
        for sparsity in sparsity_order(sparsity for name, sparsity in cells if name == method):
            rows[method, sparsity] = cells[method, sparsity]
    columns = list(dict.fromkeys(column for group in rows.values() for record in group for column in scores(record)))
    columns = columns or [Column(task, "acc", "", "", "") for task in _skipped_tasks(rows.values())]
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
    chance = _chance_row([record for group in rows.values() for record in group], columns, shares)
    by_sparsity = [
        [group for (_, other), group in rows.items() if other == sparsity]
        for sparsity in dict.fromkeys(sparsity for _, sparsity in rows)
        if sparsity != DENSE
    ]
    return Table(
        caption(
            f"Zero-shot tasks of {setting.model}: accuracy in percent (95 % interval)",
            setting.describe(groups),
            seeds_text(rows.values()),
            tuning_caption(record for row in rows.values() for record in row),
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


def _skipped_tasks(groups: Iterable[list[Record]]) -> list[str]:
    """Requested tasks without results, such as of a model that is never in memory as a whole."""
    tasks = [
        task
        for group in groups
        for record in group
        if record.status == "ok"
        for evaluation in record.cell.evaluations
        for task in task_titles(evaluation)
    ]
    return list(dict.fromkeys(tasks))


def _has_zero_shot(record: Record) -> bool:
    return any(task_titles(evaluation) for evaluation in record.cell.evaluations) or bool(record.zero_shot)


def _entry(score: Score | None, *, share: bool) -> str:
    if score is None:
        return text.MISSING
    if not share:
        spread = "" if score.stderr is None else f" ± {text.number(score.stderr, like=score.value)}"
        return text.number(score.value) + spread
    spread = "" if math.isnan(score.low) else f" ({100 * score.low:.1f}–{100 * score.high:.1f})"
    return f"{100 * score.value:.1f}{spread}"
