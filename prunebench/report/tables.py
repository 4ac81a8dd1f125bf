"""Tables from records."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from prunebench.record import Cost, Record
from prunebench.report import text
from prunebench.report.records import (
    DENSE,
    Setting,
    baselines,
    grouped,
    latest,
    method_order,
    sparsity_order,
)


@dataclass(frozen=True)
class Table:
    """A table before it has a format; every entry is text."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def all_tables(records: Sequence[Record], order: Sequence[str] = ()) -> list[Table]:
    """Everything a report says: for each model perplexities, zero-shot tasks and costs; then failures and notes.

    Args:
        records: what to report on. Models and protocols keep the order in which they appear.
        order: methods in the order to show them; the rest follow by name. The dense model comes first in any case.

    Returns:
        Tables that have rows.
    """
    from prunebench.report.zero_shot import zero_shot_tables

    shown, left_out = latest(records)
    tables: list[Table] = []
    for of_model in grouped(shown, lambda record: record.cell.model).values():
        tables += perplexity_tables(of_model, order)
        tables += zero_shot_tables(of_model, order)
        tables += cost_tables(of_model, order)
    tables += [failure_table(shown), note_table(shown, order), left_out_table(left_out)]
    return [table for table in tables if table.rows]


def tabled_settings(records: Sequence[Record]) -> dict[Setting, list[Record]]:
    """Records by what a table never mixes; baselines by themselves only where nothing was pruned."""
    groups = grouped(records, Setting.of)
    pruned = {setting.checkpoint for setting, of_setting in groups.items() if _pruned(of_setting)}
    return {
        setting: of_setting
        for setting, of_setting in groups.items()
        if _pruned(of_setting) or setting.checkpoint not in pruned
    }


def _pruned(records: Iterable[Record]) -> bool:
    return any(record.cell.sparsity != DENSE for record in records)


def dense_of(records: Iterable[Record], setting: Setting) -> dict[str, list[Record]]:
    """Baselines of the same checkpoint, whatever they were not calibrated on, by method."""
    same = [record for record in records if Setting.of(record).checkpoint == setting.checkpoint]
    names = baselines(same)
    return grouped((record for record in same if record.cell.method in names), lambda record: record.cell.method)


def protocols(record: Record) -> dict[str, str]:
    """Perplexity protocols of a cell, measured or not, each with the digest of its text."""
    asked = {
        str(evaluation["protocol"]): str(evaluation.get("digest") or "")
        for evaluation in record.cell.evaluations
        if "protocol" in evaluation
    }
    return asked | {name: "" for name in record.perplexity if name not in asked}


def perplexity_tables(records: Sequence[Record], order: Sequence[str] = ()) -> list[Table]:
    """Methods × sparsities, one table for each protocol (and setting); the dense model in the caption."""
    everything = dict.fromkeys(protocol for record in records for protocol in protocols(record).items())
    groups = tabled_settings(records)
    return [
        _perplexity_table(name, digest, list(everything), setting, groups, records, order)
        for name, digest in everything
        for setting, of_setting in groups.items()
        if any(protocols(record).get(name) == digest for record in of_setting)
    ]


def _perplexity_table(
    protocol: str,
    digest: str,
    everything: list[tuple[str, str]],
    setting: Setting,
    groups: dict[Setting, list[Record]],
    records: Sequence[Record],
    order: Sequence[str],
) -> Table:
    fitting = [record for record in groups[setting] if protocols(record).get(protocol) == digest]
    base = dense_of((record for record in records if protocols(record).get(protocol) == digest), setting)
    rows = [record for record in fitting if record.cell.method not in base] or fitting
    cells = grouped(rows, lambda record: (record.cell.method, record.cell.sparsity))
    columns = sparsity_order(sparsity for _, sparsity in cells)

    def value(record: Record) -> float:
        return record.perplexity[protocol].value

    def dense(of_method: list[Record]) -> str:
        return averaged(of_method[-1:], value)

    title = f"{protocol} ({digest[:8]})" if [name for name, _ in everything].count(protocol) > 1 else protocol
    measured = [f"{name} {dense(base[name])}" for name in method_order(records, ("dense", *order)) if name in base]
    return Table(
        caption=sentences(
            f"Perplexity of {setting.model} on {title}",
            ", ".join(measured) if rows is not fitting or measured else "the dense model was not measured",
            setting.words(groups),
            seed_words(cells.values()),
        ),
        headers=("method", *columns),
        rows=tuple(
            (method, *(averaged(cells.get((method, sparsity), []), value) for sparsity in columns))
            for method in method_order(rows, order)
        ),
    )


def averaged(records: Sequence[Record], value: Callable[[Record], float]) -> str:
    """Mean ± standard deviation over seeds; failed ones are told, not averaged away."""
    if not records:
        return text.MISSING
    values = [value(record) for record in records if record.status == "ok"]
    failed = len(records) - len(values)
    if not values:
        return text.FAILED
    mean = statistics.fmean(values)
    shown = text.number(mean)
    if len(values) > 1 and math.isfinite(mean):
        shown += f" ± {text.number(statistics.stdev(values), like=mean)}"
    return f"{shown} ({failed} {text.FAILED})" if failed else shown


def seed_words(groups: Iterable[Sequence[Record]], spread: str = "standard deviation") -> str:
    """How many seeds a table's entries average over."""
    counts = {len(group) for group in groups}
    most = max(counts, default=1)
    if most == 1:
        return "one seed"
    one = "; without ± one seed" if 1 in counts and spread == "standard deviation" else ""
    upto = "up to " if len(counts - {1}) > 1 else ""
    return f"mean ± {spread} over {upto}{most} seeds{one}"


def sentences(*parts: str) -> str:
    """A caption from its parts."""
    return "; ".join(text.plain(part) for part in parts if part)


def cost_tables(records: Sequence[Record], order: Sequence[str] = ()) -> list[Table]:
    """What each method took, over all of its sparsities and seeds."""
    groups = tabled_settings(records)
    tables = []
    for setting, of_setting in groups.items():
        rows = [record for record in of_setting if record.status == "ok"]
        pruned = [record for record in rows if record.cell.sparsity != DENSE]
        methods = grouped(pruned, lambda record: record.cell.method)
        state = any(record.cost.state_bytes is not None for record in pruned)
        devices = dict.fromkeys(_device(record) for record in pruned)
        body = tuple(_cost_row(method, methods[method], with_state=state) for method in method_order(pruned, order))
        headers = ("method", "cells", "prune time", "tokens seen", "peak memory", *(("method state",) if state else ()))
        where = "" if len(devices) != 1 else next(iter(devices))
        caption = sentences(f"Cost of pruning {setting.model}", setting.words(groups), where, "least to most")
        tables.append(Table(caption, headers, body))
    return tables


def _cost_row(method: str, records: Sequence[Record], *, with_state: bool) -> tuple[str, ...]:
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
        *((range_of(lambda cost: cost.state_bytes, text.size),) if with_state else ()),
    )


def _device(record: Record) -> str:
    device, threads = record.environment.get("device"), record.environment.get("threads")
    return ", ".join([str(device)] * bool(device) + [f"{threads} threads"] * bool(threads))


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
