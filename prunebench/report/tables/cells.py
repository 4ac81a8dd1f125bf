"""Tables of failed cells, of notes, and of records that the report leaves out."""

from collections import Counter
from collections.abc import Iterable, Sequence

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.tables.table import Table


def failure_table(records: Iterable[Record]) -> Table:
    """Failed cells with their errors."""
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


def note_table(records: Iterable[Record], order: Sequence[str]) -> Table:
    """Adjustments that methods and the runner noted, with counts.

    Args:
        records: of any models.
        order: all methods in the order to show them.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    cells: Counter[tuple[str, str, str]] = Counter()
    for record in records:
        for what, times in record.notes.items():
            counts[record.cell.model, record.cell.method, what] += times
            cells[record.cell.model, record.cell.method, what] += 1
    rows = sorted(counts, key=lambda row: (row[0], order.index(row[1]), row[2]))
    return Table(
        "Notes",
        ("model", "method", "note", "cells", "times"),
        tuple((*row, str(cells[row]), str(counts[row])) for row in rows),
    )


def left_out_table(records: Iterable[Record]) -> Table:
    """Records left out because a later record of the same cell exists."""
    return Table(
        "Left out: a later record of the same cell is there",
        ("record", "started"),
        tuple((record.cell.id, str(record.environment.get("started") or text.MISSING)) for record in records),
    )
