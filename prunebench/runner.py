"""The sweep: cells in, records out. A failed cell is a record with its error; the sweep goes on."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from prunebench.cell import Cell
from prunebench.checkpoint import is_saved
from prunebench.disk.room import check_room
from prunebench.ear import Display
from prunebench.errors import OutputError
from prunebench.evaluation.zero_shot import TaskLibrary
from prunebench.execution import run_cell
from prunebench.record import Record, read_record, write_record
from prunebench.workshop import Workshop


def run_suite(
    cells: Iterable[Cell],
    output: Path,
    display: Display,
    *,
    fresh: bool = False,
    library: TaskLibrary | None = None,
    save_models: bool = False,
) -> list[Record]:
    """Run every cell whose record is not there, and write its record.

    Args:
        cells: what to run, in this order.
        output: the results folder; made if needed.
        display: shows the progress.
        fresh: run cells again whose record is there.
        library: tasks that are loaded already.
        save_models: keep the pruned models too; cells whose model is not there are run again.

    Returns:
        The record of every cell, those that were there included.

    Raises:
        OutputError: the folder cannot be written, or its disk lacks room for models that are worked on there.
        UsageError: a text does not fit its windows or the model; nothing ran.
    """
    cells = list(cells)
    _ensure_writable(output)
    there = {} if fresh else {cell.id: record for cell in cells if (record := _good_record(output, cell))}
    kept = {name: record for name, record in there.items() if not save_models or _needs_no_model(output, record)}
    workshop = Workshop(library, output)
    to_run = [cell for cell in cells if cell.id not in kept]
    workshop.prepare(to_run)
    check_room(to_run, workshop, output, save_models=save_models)
    display.start(len(cells), len(kept))
    records = []
    for number, cell in enumerate(cells, start=1):
        if cell.id not in kept:
            display.begin(number, cell)
            began = time.perf_counter()
            record, arrays = run_cell(cell, workshop, display, save_to=output if save_models else None)
            write_record(output, record, arrays)
            display.end(record, time.perf_counter() - began)
            kept[cell.id] = record
        records.append(_with_published(output, cell, kept[cell.id]))
    return records


def _with_published(output: Path, cell: Cell, record: Record) -> Record:
    """A kept record, with the published figures that the suite names now: they change no outcome."""
    if record.cell.published == cell.published:
        return record
    facts = record.cell.model_copy(update={"published": cell.published})
    record = record.model_copy(update={"cell": facts})
    write_record(output, record, {})
    return record


def _ensure_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write to the output folder {folder}: {error.strerror}; choose another with --output"
        ) from None


def _good_record(output: Path, cell: Cell) -> Record | None:
    """The record of a cell that ran well; a failed or unreadable one is run again."""
    path = output / f"{cell.id}.json"
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except OutputError:
        return None
    return record if record.status == "ok" and record.cell.id == cell.id else None


def _needs_no_model(output: Path, record: Record) -> bool:
    """Whether a cell's model is saved, or is the dense one, which is there anyway."""
    pruned = record.method is None or record.method.changes != "nothing"
    return not pruned or (record.saved is not None and is_saved(output, record.cell.id))
