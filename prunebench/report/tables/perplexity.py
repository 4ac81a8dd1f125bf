"""Perplexity tables: methods × sparsities."""

import math
import statistics
from collections.abc import Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.budgets import HEADERS, by_group, columns_of, group_of
from prunebench.report.grouping import (
    Setting,
    baselines_of,
    group_by,
    method_order,
    protocol_digests,
    records_by_setting,
    sparsity_order,
)
from prunebench.report.reached import reached_caption
from prunebench.report.tables.best import GROUPED_CAPTION, marks_by_group, marks_caption
from prunebench.report.tables.table import Table, caption, seeds_text
from prunebench.report.tuning import tuning_caption


def perplexity_tables(
    records: Sequence[Record], order: Sequence[str] = (), array_store: ArrayStore | None = None
) -> list[Table]:
    """Perplexity of methods × sparsities, one table for each protocol and setting; the dense model is in the caption.

    Rows tell how much a method trained, and those that trained alike stand together; the best is marked among them, and
    once more over all.

    Args:
        records: records of one model.
        order, array_store: see ``prunebench.report.sections.all_tables``.
    """
    tables = []
    text_keys = list(dict.fromkeys(protocol for record in records for protocol in protocol_digests(record).items()))
    for name, digest in text_keys:
        measured = [record for record in records if protocol_digests(record).get(name) == digest]
        title = name if [other for other, _ in text_keys].count(name) == 1 else f"{name} (text {digest[:8]})"
        groups = records_by_setting(measured)
        tables += [_perplexity_table(name, title, setting, groups, measured, order, array_store) for setting in groups]
    return tables


def _perplexity_table(
    protocol: str,
    title: str,
    setting: Setting,
    groups: dict[Setting, list[Record]],
    measured: Sequence[Record],
    order: Sequence[str],
    array_store: ArrayStore | None,
) -> Table:
    base = baselines_of(measured, setting)
    rows = [record for record in groups[setting] if record.cell.method not in base] or groups[setting]
    cells = group_by(rows, lambda record: (record.cell.method, record.cell.sparsity))
    columns = sparsity_order(sparsity for _, sparsity in cells)
    dense = [f"{name} {mean_over_seeds([base[name]], protocol)}" for name in method_order(base.values(), order)]
    of_method = group_by(rows, lambda record: record.cell.method)
    methods = method_order(rows, order)
    groups_of_rows = [group_of(of_method[method]) for method in methods]
    methods = [methods[row] for row in by_group(groups_of_rows)]
    groups_of_rows = [group_of(of_method[method]) for method in methods]
    entries = [[cells.get((method, sparsity), []) for method in methods] for sparsity in columns]
    marked, over_all = marks_by_group(entries, groups_of_rows, protocol, array_store)
    return Table(
        caption(
            f"Perplexity of {setting.model} on {title}",
            ", ".join(dense) or "the dense model was not measured",
            setting.describe(groups),
            seeds_text(cells.values(), "standard deviation"),
            tuning_caption([*base.values(), *rows]),
            reached_caption(rows),
            marks_caption(entries, marked=bool(marked | over_all), evidence=array_store is not None),
            GROUPED_CAPTION if over_all else "",
        ),
        ("method", *HEADERS, *columns),
        tuple(
            (method, *columns_of(of_method[method]), *(mean_over_seeds(column[row], protocol) for column in entries))
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
