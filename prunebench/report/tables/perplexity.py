"""Tables from records."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from prunebench import text
from prunebench.records.record import Cost, Record
from prunebench.report.grouping import (
    DENSE,
    Setting,
    baselines_of,
    grouped,
    latest,
    method_order,
    protocols,
    sparsity_order,
    tabled_settings,
)
from prunebench.report.paired import Evidence
from prunebench.report.plots.axes import looks_of
from prunebench.report.tables.best import MARKED, mark_perplexities
from prunebench.report.tables.forecasts import forecast_tables
from prunebench.report.tables.mask_overlap import overlap_tables
from prunebench.report.tables.other_texts import robustness_tables
from prunebench.report.tables.plugin_measures import measure_tables
from prunebench.report.tables.published import published_table
from prunebench.report.tables.table import Table, caption, seed_words
from prunebench.report.tables.zero_shot import zero_shot_tables


def all_tables(records: Sequence[Record], order: Sequence[str] = (), evidence: Evidence | None = None) -> list[Table]:
    """Everything a report says: for each model perplexities, zero-shot tasks, masks and costs; then the rest.

    Args:
        records: what to report on. Models and protocols keep the order in which they appear.
        order: methods in the order to show them; the rest follow by name.
        evidence: the arrays beside the records; without them nothing is marked as best.

    Returns:
        Tables that have rows.
    """
    shown, left_out = latest(records)
    tables: list[Table] = []
    for of_model in grouped(shown, lambda record: record.cell.model).values():
        tables += perplexity_tables(of_model, order, evidence)
        tables += zero_shot_tables(of_model, order, evidence)
        tables += measure_tables(of_model, order)
        tables += overlap_tables(of_model, order, evidence)
        tables += cost_tables(of_model, order)
    tables += robustness_tables(shown, looks_of(shown, order))
    tables += forecast_tables(shown, evidence.forecasts() if evidence else {}, order)
    tables += [
        size_table(shown),
        published_table(shown),
        failure_table(shown),
        note_table(shown, order),
        left_out_table(left_out),
    ]
    return [table for table in tables if table.rows]


def perplexity_tables(
    records: Sequence[Record], order: Sequence[str] = (), evidence: Evidence | None = None
) -> list[Table]:
    """Methods × sparsities, a table for each protocol and setting; the dense model in the caption.

    Args:
        records: of one model.
        order, evidence: see ``all_tables``.
    """
    tables = []
    found = list(dict.fromkeys(protocol for record in records for protocol in protocols(record).items()))
    for name, digest in found:
        measured = [record for record in records if protocols(record).get(name) == digest]
        title = name if [other for other, _ in found].count(name) == 1 else f"{name} (text {digest[:8]})"
        groups = tabled_settings(measured)
        tables += [_perplexity_table(name, title, setting, groups, measured, order, evidence) for setting in groups]
    return tables


def _perplexity_table(
    protocol: str,
    title: str,
    setting: Setting,
    groups: dict[Setting, list[Record]],
    measured: Sequence[Record],
    order: Sequence[str],
    evidence: Evidence | None,
) -> Table:
    base = baselines_of(measured, setting)
    rows = [record for record in groups[setting] if record.cell.method not in base] or groups[setting]
    cells = grouped(rows, lambda record: (record.cell.method, record.cell.sparsity))
    columns = sparsity_order(sparsity for _, sparsity in cells)
    dense = [f"{name} {averaged([base[name]], protocol)}" for name in method_order(base.values(), order)]
    methods = method_order(rows, order)
    entries = [[cells.get((method, sparsity), []) for method in methods] for sparsity in columns]
    marked = mark_perplexities(entries, protocol, evidence)
    return Table(
        caption(
            f"Perplexity of {setting.model} on {title}",
            ", ".join(dense) or "the dense model was not measured",
            setting.words(groups),
            seed_words(cells.values(), "standard deviation"),
            MARKED if marked else "",
        ),
        ("method", *columns),
        tuple((method, *(averaged(column[row], protocol) for column in entries)) for row, method in enumerate(methods)),
        frozenset((row, 1 + column) for column, row in marked),
    )


def averaged(records: Sequence[Record], protocol: str) -> str:
    """Mean ± standard deviation over seeds; failed ones are told, not averaged away."""
    values = [r.perplexity[protocol].value for r in records if r.status == "ok" and protocol in r.perplexity]
    failed = sum(record.status == "failed" for record in records)
    if not values:
        return text.FAILED if failed else text.MISSING
    mean = statistics.fmean(values)
    shown = text.number(mean)
    if len(values) > 1 and math.isfinite(mean):
        shown += f" ± {text.number(statistics.stdev(values), like=mean)}"
    return f"{shown} ({failed} {text.FAILED})" if failed else shown


def cost_tables(records: Sequence[Record], order: Sequence[str] = ()) -> list[Table]:
    """What each method took, from the least to the most over its sparsities and seeds.

    Args:
        records: of one model.
        order: see ``all_tables``.
    """
    groups = tabled_settings(records)
    tables = []
    for setting, group in groups.items():
        pruned = [record for record in group if record.status == "ok" and record.cell.sparsity != DENSE]
        methods = grouped(pruned, lambda record: record.cell.method)
        state = any(record.cost.state_bytes is not None for record in pruned)
        devices = {_device(record) for record in pruned}
        where = devices.pop() if len(devices) == 1 else ""
        tables.append(
            Table(
                caption(f"Cost of pruning {setting.model}", setting.words(groups), where),
                ("method", "cells", "prune time", "tokens seen", "peak memory", *(["method state"] if state else [])),
                tuple(_cost_row(name, methods[name], state=state) for name in method_order(pruned, order)),
            )
        )
    return tables


def _cost_row(method: str, records: Sequence[Record], *, state: bool) -> tuple[str, ...]:
    def range_of(amount: Callable[[Cost], float | None], show: Callable[[float], str]) -> str:
        values = [value for record in records if (value := amount(record.cost)) is not None]
        ends = dict.fromkeys((show(min(values)), show(max(values)))) if values else [text.MISSING]
        return " to ".join(ends)

    return (
        method,
        str(len(records)),
        range_of(lambda cost: cost.prune_seconds, text.seconds),
        range_of(lambda cost: cost.tokens_seen, text.count),
        range_of(lambda cost: cost.peak_bytes, text.size),
        *((range_of(lambda cost: cost.state_bytes, text.size),) if state else ()),
    )


def _device(record: Record) -> str:
    device, threads = record.environment.get("device"), record.environment.get("threads")
    return ", ".join([*([str(device)] if device else []), *([f"threads: {threads}"] if threads else [])])


def size_table(records: Iterable[Record]) -> Table:
    """Saved models: their weights as they are, in the compact form, and the fewest bytes that could tell them."""
    rows = []
    for record in records:
        if record.saved is not None:
            cell, saved = record.cell, record.saved
            share = f"{saved.sparse_bytes / saved.dense_bytes:.3f}"
            sizes = (saved.dense_bytes, saved.sparse_bytes, saved.bound_bytes)
            over = f"{100 * (saved.sparse_bytes / saved.bound_bytes - 1):.1f} %"
            rows.append((cell.model, cell.method, cell.sparsity, str(cell.seed), *map(text.size, sizes), share, over))
    return Table(
        "Sizes of saved weights; least: entropy of the masks plus the kept values",
        ("model", "method", "sparsity", "seed", "dense", "compact", "least", "compact / dense", "above least"),
        tuple(rows),
    )


def failure_table(records: Iterable[Record]) -> Table:
    """Cells that failed, and why."""
    return Table(
        "Failed cells",
        ("model", "method", "sparsity", "seed", "error", "message"),
        tuple(
            (
                *(str(part) for part in (cell.model, cell.method, cell.sparsity, cell.seed)),
                *((record.error.type, record.error.message) if record.error else ("unknown", "")),
            )
            for record in records
            if record.status == "failed"
            for cell in (record.cell,)
        ),
    )


def note_table(records: Iterable[Record], order: Sequence[str] = ()) -> Table:
    """Adjustments that methods and the runner made, counted."""
    noted = [record for record in records if record.notes]
    counts: Counter[tuple[str, str, str]] = Counter()
    cells: Counter[tuple[str, str, str]] = Counter()
    for record in noted:
        for what, times in record.notes.items():
            counts[record.cell.model, record.cell.method, what] += times
            cells[record.cell.model, record.cell.method, what] += 1
    place = {method: position for position, method in enumerate(method_order(noted, order))}
    rows = sorted(counts, key=lambda row: (row[0], place[row[1]], row[2]))
    return Table(
        "Notes",
        ("model", "method", "note", "cells", "times"),
        tuple((*row, str(cells[row]), str(counts[row])) for row in rows),
    )


def left_out_table(records: Iterable[Record]) -> Table:
    """Records that a later one of the same cell replaces in the tables above."""
    return Table(
        "Left out: a later record of the same cell is there",
        ("record", "started"),
        tuple((record.cell.id, str(record.environment.get("started") or text.MISSING)) for record in records),
    )
