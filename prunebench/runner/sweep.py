"""The sweep: cells in, records out. A failed cell is a record with its error; the sweep goes on.

Here it is decided what is to run; ``rounds`` waits for what others run, and who runs it is an engine.
"""

import logging
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunebench.errors import EngineError, OutputError
from prunebench.evaluation.interface import Shared
from prunebench.models.saving import is_saved
from prunebench.records.folder_store import FolderStore
from prunebench.records.quarantine import QUARANTINE_FOLDER, read_intact_record
from prunebench.records.record import MODELS_FOLDER, SPARSE_FOLDER, Forecast, Record
from prunebench.records.store import read_forecasts, refuse_irregular
from prunebench.runner.board import Board
from prunebench.runner.claims import FOLDER as CLAIMS
from prunebench.runner.claims import LEASE, Abandoned, Claims
from prunebench.runner.engines.interface import Engine, Executor, Work
from prunebench.runner.engines.local import Local
from prunebench.runner.events import Silent, SweepDisplay
from prunebench.runner.in_process import InProcess
from prunebench.runner.rounds import Rounds, blamed, give_up
from prunebench.runner.saved_state import FOLDER as PARTIAL
from prunebench.runner.saved_state import INTERVAL, remove_stale
from prunebench.suite.cell import Cell

_LOG = logging.getLogger(__name__)


# What a results folder holds besides files.
FOLDERS = (CLAIMS, PARTIAL, QUARANTINE_FOLDER, MODELS_FOLDER, SPARSE_FOLDER)


def run_suite(
    cells: Iterable[Cell],
    output: Path,
    display: SweepDisplay,
    *,
    fresh: bool = False,
    shared: Shared | None = None,
    save_models: bool = False,
    verify: bool = False,
    executor: Executor | None = None,
    engine: Engine | None = None,
    lease: float = LEASE,
    wait: bool = True,
    command: tuple[str, ...] | None = None,
) -> list[Record]:
    """Run every cell whose record is not there, and write its record.

    Several runners may work on one folder: each cell runs once, and each runner returns when all its cells have run.

    Args:
        cells: what to run, in this order.
        output: the results folder; made if needed.
        display: shows the progress.
        fresh: run cells again whose record is there.
        shared: what evaluations have looked up already.
        save_models: keep the pruned models too; cells whose model is not there are run again.
        verify: make evaluations once more on text that is made after pruning; cells that were not verified, though one
            of their evaluations can be, are run again.
        executor: who runs a cell on this machine; by default this process.
        engine: who hands cells to workers; by default those of this machine.
        lease: seconds after which another runner that gives no sign is held for dead.
        wait: for cells that other runners have; else their records are missing from what is returned.
        command: the words of the command that asked for this, for an engine that submits it.

    Returns:
        The records of the cells, in their order, those that were there included: of all, but for those that are not
        waited for, and those of an engine that only submits a job.

    Raises:
        OutputError: the folder cannot be written, or its disk lacks room for models that are worked on there.
        EngineError: the engine cannot be had, or failed.
        UsageError: a text does not fit its windows or the model; nothing ran.
    """
    options: dict[str, Any] = {"fresh": fresh, "save_models": save_models, "verify": verify, "lease": lease}
    _ensure_writable(output)
    refuse_irregular(output, FOLDERS)
    cells, runs = list(cells), InProcess(shared) if executor is None else executor
    work, board, kept = _asked(cells, output, display, runs, command=command, **options)
    if not work.cells:
        display.start(len(cells), len(kept))
        remove_stale(output, cells, kept)
    else:
        with blamed(engine := engine or Local()):
            workers = engine.start(work)
        try:
            display.expect(list(work.cells.values()), kept.values(), _forecasts(output))
            display.start(len(cells), len(kept))
            remove_stale(output, cells, kept)
            kept |= Rounds(work, workers, engine, board).run(wait=wait)
        finally:
            workers.stop()
    records = [_with_facts(output, cell, kept[cell.id], work.claims) for cell in cells if cell.id in kept]
    work.claims.close()
    return records


def preview_job(cells: Iterable[Cell], output: Path, *, engine: Any, executor: Executor, **options: Any) -> str:
    """The text of the job that an engine would submit; nothing runs.

    Args:
        cells, output, engine, executor, options: as in ``run_suite``; the engine has ``preview``.

    Raises:
        EngineError: there can be no such job.
    """
    work, _, _ = _asked(list(cells), output, Silent(), executor, **options)
    if not work.cells:
        raise EngineError("every cell has its record: there is no job to submit")
    with blamed(engine):
        return str(engine.preview(work))


def _asked(
    cells: Sequence[Cell],
    output: Path,
    display: SweepDisplay,
    executor: Executor,
    *,
    fresh: bool = False,
    save_models: bool = False,
    verify: bool = False,
    lease: float = LEASE,
    command: tuple[str, ...] | None = None,
) -> tuple[Work, Board, dict[str, Record]]:
    """What is to run, who shows it, and the records that are there already, by cell; see ``run_suite``."""
    store = FolderStore(output)
    found = {cell.id: store.signature(cell.id) for cell in cells}
    there = {} if fresh else {cell.id: record for cell in cells if (record := _seen(output, cell))}
    kept = {name: record for name, record in there.items() if not save_models or _needs_no_model(output, record)}
    if verify:
        verifiable = {cell.id for cell in cells if any(e.verifies for e in cell.evaluations)}
        kept = {name: record for name, record in kept.items() if name not in verifiable or _is_verified(record)}
    numbered = {cell.id: (number, cell) for number, cell in enumerate(cells, start=1)}
    board, claims = Board(display, numbered), Claims(output, lease)
    work = Work(
        cells={name: cell for name, (_, cell) in numbered.items() if name not in kept},
        output=output,
        before=found,
        executor=executor,
        claims=claims,
        fresh=fresh,
        save_models=save_models,
        verify=verify,
        every=getattr(executor, "every", INTERVAL),
        lease=lease,
        command=command,
        begin=board.begin,
        tell=lambda line: _LOG.warning("%s", line),
        fail=lambda cell, why: give_up(store, numbered[cell][1], why),
    )
    return work, board, kept


def _outcome(output: Path, cell: Cell) -> Record | None:
    """The record of a cell, be it failed; None where there is none that is whole."""
    try:
        return read_intact_record(output, cell.id)
    except OutputError:
        return None


def _seen(output: Path, cell: Cell) -> Record | None:
    """The record of a cell that ran well; nothing is moved, for another runner may be writing it."""
    record = _outcome(output, cell)
    return record if record is not None and record.status == "ok" else None


def _with_facts(output: Path, cell: Cell, record: Record, claims: Claims) -> Record:
    """A kept record, with the published figures and the tuning that the suite tells of now: they change no outcome."""
    told = {"published": cell.published, "tuning": cell.tuning}
    if record.status == "failed" or all(getattr(record.cell, name) == value for name, value in told.items()):
        return record
    with claims.held(cell.id) as claim:
        record = _outcome(output, cell) or record  # which another runner may have made anew
        record = record.model_copy(update={"cell": record.cell.model_copy(update=told)})
        with suppress(Abandoned):
            return record if claim is None else FolderStore(output).write(record, {}, fence=claim)
    return record


def _forecasts(output: Path) -> dict[str, Forecast]:
    """Forecasts by cell; none where their file is damaged, of which ``plan`` tells."""
    try:
        return read_forecasts(output)
    except OutputError:
        return {}


def _ensure_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to the output folder {folder}: {error.strerror}; choose another with --output"
        ) from None


def _is_verified(record: Record) -> bool:
    """Whether a cell was measured on fresh text, or is the dense one, which is what others are held against."""
    return bool(record.verified) or (record.method is not None and record.method.changes == "nothing")


def _needs_no_model(output: Path, record: Record) -> bool:
    """Whether a cell's model is saved, or is the dense one, which is there anyway."""
    pruned = record.method is None or record.method.changes != "nothing"
    return not pruned or (record.saved is not None and is_saved(output, record))
