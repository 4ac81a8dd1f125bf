"""Rounds of a sweep: cells are handed to an engine, and those that others have are waited for and asked for again."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prunebench.errors import EngineError, PrunebenchError
from prunebench.files import is_disk_error
from prunebench.records.folder_store import FolderStore
from prunebench.records.record import SCHEMA, CellFacts, Failure, Record
from prunebench.runner.board import Board
from prunebench.runner.claims import Claims
from prunebench.runner.engines.interface import Engine, Work, Workers
from prunebench.suite.cell import CLASS_FACTS, Cell
from prunebench.tracebacks import describe_error

_LOG = logging.getLogger(__name__)
PATIENCE = 5  # rounds in which an engine may give a cell back that nobody has


class Rounds:
    """The cells of one sweep that are to run.

    Args:
        work: them.
        workers: who runs them.
        engine: whose workers they are.
        board: shows them.
    """

    def __init__(self, work: Work, workers: Workers, engine: Engine, board: Board) -> None:
        self._work, self._workers, self._engine, self._board = work, workers, engine, board
        self._said, self._given_back = set[str](), Counter[str]()

    def run(self, *, wait: bool) -> dict[str, Record]:
        """The records, by cell, of all that ran, here or elsewhere."""
        records: dict[str, Record] = {}
        left = list(self._work.cells)
        while left:
            held = self._round(left, records)
            if held and not wait:
                _LOG.warning("%s", f"{len(held)} cell{'s are' if len(held) > 1 else ' is'} left to other runners")
                break
            if len(held) == len(left):
                self._wait_for(held)
            left = held
        return records

    def _round(self, cells: Iterable[str], records: dict[str, Record]) -> list[str]:
        """Have cells run that nobody else has; those that somebody has."""
        held = []
        with blamed(self._engine):
            for cell in cells:
                self._workers.submit(cell)
            for cell in self._workers.finished():
                record = self._work.store.written_since(cell, self._work.before[cell])
                if record is None:
                    self._board.leave(cell)
                    held.append(cell)
                else:
                    self._board.end(cell, record)
                    records[cell] = record
        return held

    def _wait_for(self, cells: Iterable[str]) -> None:
        claims, lease = self._work.claims, self._work.lease
        for cell in cells:
            self._given_back[cell] = 0 if _is_held(claims, cell) else self._given_back[cell] + 1
            if self._given_back[cell] > PATIENCE:
                raise EngineError(f"the engine {_name_of(self._engine)} gives {cell} back without its record")
        _say_for_whom(claims, cells, self._said, lease)
        time.sleep(min(lease / 4, 1.0))


def _is_held(claims: Claims, cell: str) -> bool:
    """Whether a runner has a cell; of a file system that is away for a moment, that it may."""
    try:
        return claims.is_held(cell)
    except OSError:
        return True


def _say_for_whom(claims: Claims, waiting: Iterable[str], said: set[str], lease: float) -> None:
    """Log for which runners this one waits, each once."""
    cells: dict[str, list[str]] = {}
    for cell in waiting:
        if (holder := claims.holder(cell)) is not None and holder not in said:
            cells.setdefault(holder, []).append(cell)
    for holder, names in cells.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        _LOG.warning("%s", f"waiting for {holder}, which has {names[0]}{more}; overtaken after {lease:g} s of silence")
        said.add(holder)


@contextmanager
def blamed(engine: Engine) -> Iterator[None]:
    """Tell of what goes wrong in an engine in a line.

    Raises:
        EngineError: something went wrong that has no line of its own.
    """
    try:
        yield
    except PrunebenchError:
        raise
    except Exception as error:  # a plugin may raise anything
        if isinstance(error, OSError) and is_disk_error(error):
            raise
        message = f"the engine {_name_of(engine)} failed: {type(error).__name__}: {describe_error(error)}"
        raise EngineError(message) from error


def _name_of(engine: Engine) -> str:
    return repr(type(engine).__name__)


def give_up(store: FolderStore, cell: Cell, why: str) -> None:
    """Write the record of a cell that no worker brought to an end; one that ran well before stays beside it."""
    facts = CellFacts.model_validate(cell.model_dump(mode="json", exclude=set(CLASS_FACTS)))
    error = Failure(type="WorkerLost", message=why)
    store.write(Record(schema_version=SCHEMA, cell=facts, status="failed", error=error), {})
