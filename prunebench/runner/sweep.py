"""The sweep: cells in, records out. A failed cell is a record with its error; the sweep goes on."""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prunebench.errors import OutputError
from prunebench.evaluation.interface import Shared
from prunebench.files import discard_tree
from prunebench.models.saving import is_saved
from prunebench.records.quarantine import QUARANTINE_FOLDER, read_intact_record, successful_record
from prunebench.records.record import MODELS_FOLDER, SPARSE_FOLDER, Record
from prunebench.records.store import FAILED, read_record, refuse_irregular, write_record
from prunebench.runner.claims import FOLDER as CLAIMS
from prunebench.runner.claims import LEASE, Abandoned, Claim, Claims
from prunebench.runner.events import Display
from prunebench.runner.in_process import InProcess
from prunebench.runner.saved_state import FOLDER as PARTIAL
from prunebench.runner.saved_state import SavedState, remove_stale
from prunebench.suite.cell import Cell

_LOG = logging.getLogger(__name__)


# What a results folder holds besides files.
FOLDERS = (CLAIMS, PARTIAL, QUARANTINE_FOLDER, MODELS_FOLDER, SPARSE_FOLDER)


class Executor(Protocol):
    """Who runs cells: this process, a worker."""

    def prepare(self, cells: Sequence[Cell], output: Path, *, save_models: bool) -> None:
        """See to what cells need, so that what is amiss shows before anything runs."""

    def run(
        self,
        cell: Cell,
        output: Path,
        display: Display,
        *,
        save_models: bool,
        wanted: Callable[[], bool],
        verify: bool = False,
    ) -> Record:
        """Run a cell and write its record; may raise ``Abandoned`` once the result is not ``wanted`` any more.

        ``wanted`` is asked while the cell runs, and immediately before its record is renamed into place.
        """


def run_suite(
    cells: Iterable[Cell],
    output: Path,
    display: Display,
    *,
    fresh: bool = False,
    shared: Shared | None = None,
    save_models: bool = False,
    verify: bool = False,
    executor: Executor | None = None,
    lease: float = LEASE,
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
        executor: who runs them; by default this process.
        lease: seconds after which another runner that gives no sign is held for dead.

    Returns:
        The record of every cell, those that were there included.

    Raises:
        OutputError: the folder cannot be written, or its disk lacks room for models that are worked on there.
        UsageError: a text does not fit its windows or the model; nothing ran.
    """
    cells = list(cells)
    executor = executor or InProcess(shared)
    _ensure_writable(output)
    refuse_irregular(output, FOLDERS)
    found = {cell.id: _signature(output, cell) for cell in cells}
    there = {} if fresh else {cell.id: record for cell in cells if (record := _seen(output, cell))}
    kept = {name: record for name, record in there.items() if not save_models or _needs_no_model(output, record)}
    if verify:
        verifiable = {cell.id for cell in cells if any(e.verifies for e in cell.evaluations)}
        kept = {name: record for name, record in kept.items() if name not in verifiable or _is_verified(record)}
    if to_run := [cell for cell in cells if cell.id not in kept]:
        executor.prepare(to_run, output, save_models=save_models)
    display.start(len(cells), len(kept))

    remove_stale(output, cells, kept)
    sweep = _Sweep(
        output, display, executor, list(output.glob(".*.tmp")), fresh=fresh, save_models=save_models, verify=verify
    )
    claims = Claims(output, lease)
    left = [(number, cell) for number, cell in enumerate(cells, start=1) if cell.id not in kept]
    said: set[str] = set()
    while left:
        waiting = []
        for number, cell in left:
            with claims.held(cell.id) as claim:
                if claim is None:
                    waiting.append((number, cell))
                elif record := _written_since(output, cell, found[cell.id]):
                    kept[cell.id] = record  # another runner has run it since
                elif record := sweep.run(number, cell, claim):
                    kept[cell.id] = record
                else:
                    waiting.append((number, cell))
        if len(waiting) == len(left):
            _say_for_whom(claims, waiting, said, lease)
            time.sleep(min(lease / 4, 1.0))
        left = waiting
    records = [_with_facts(output, cell, kept[cell.id], claims) for cell in cells]
    claims.close()
    return records


def _say_for_whom(claims: Claims, waiting: Iterable[tuple[int, Cell]], said: set[str], lease: float) -> None:
    """Log for which runners this one waits, each once."""
    cells: dict[str, list[str]] = {}
    for _, cell in waiting:
        if (holder := claims.holder(cell.id)) is not None and holder not in said:
            cells.setdefault(holder, []).append(cell.id)
    for holder, names in cells.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        _LOG.warning("%s", f"waiting for {holder}, which has {names[0]}{more}; overtaken after {lease:g} s of silence")
        said.add(holder)


@dataclass(frozen=True)
class _Sweep:
    """What the cells of one sweep have in common.

    Args:
        output: the results folder.
        display: shows the progress.
        executor: runs a cell.
        torn: files that runners were writing when the sweep began; of a cell that is claimed, those of a dead one.
        fresh: run cells anew.
        save_models: keep the pruned models.
        verify: measure on fresh text too.
    """

    output: Path
    display: Display
    executor: Executor
    torn: list[Path]
    fresh: bool
    save_models: bool
    verify: bool

    def run(self, number: int, cell: Cell, claim: Claim) -> Record | None:
        """Run a cell that is claimed; None where another runner has taken it over meanwhile."""
        refuse_irregular(self.output / PARTIAL, [cell.id], inside=True)
        successful_record(self.output, cell.id)  # sets one aside that is not whole
        # Of a holder that was stopped these are taken away after the claim is made: it cannot rename them any more.
        for path in self.output.glob(".*.tmp") if claim.took_over else self.torn:
            if path.name.startswith(f".{cell.id}."):
                path.unlink(missing_ok=True)
        for folder in (MODELS_FOLDER, SPARSE_FOLDER) if claim.took_over else ():  # nor a model
            for path in (self.output / folder).glob(f".{cell.id}.*.tmp"):
                discard_tree(path)
        if self.fresh:
            SavedState.of(self.output, cell).remove()
        self.display.begin(number, cell)
        began = time.perf_counter()
        try:
            record = self.executor.run(
                cell, self.output, self.display, save_models=self.save_models, wanted=claim, verify=self.verify
            )
        except Abandoned:
            return None
        self.display.end(record, time.perf_counter() - began)
        return record


Signature = tuple[tuple[int, ...] | None, tuple[int, ...] | None]


def _signature(output: Path, cell: Cell) -> Signature:
    """Changes when a cell's record is written, the good one or that of a failure; no clock is trusted."""
    return _seen_file(output / f"{cell.id}.json"), _seen_file(output / f"{cell.id}{FAILED}")


def _seen_file(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.lstat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _written_since(output: Path, cell: Cell, before: Signature) -> Record | None:
    """The record of a cell, be it failed, that another runner has written; None where there is none that is whole."""
    now = _signature(output, cell)
    try:
        if now[1] is not None and now[1] != before[1]:
            return read_record(output / f"{cell.id}{FAILED}")
        return read_intact_record(output, cell.id) if now[0] != before[0] else None
    except OutputError:
        return None


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
            return record if claim is None else read_record(write_record(output, record, {}, fence=claim))
    return record


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
