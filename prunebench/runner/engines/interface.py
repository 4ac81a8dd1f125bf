"""What an engine is, and what it is given: cells as JSON, and who hears how they fare."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prunebench.records.folder_store import FolderStore, Signature
from prunebench.records.record import Record
from prunebench.runner.claims import LEASE, Claims
from prunebench.runner.environment import Share
from prunebench.runner.events import Display, Silent
from prunebench.runner.run_cell import Limits
from prunebench.suite.cell import Cell


class Executor(Protocol):
    """Who runs one cell at a time: this process, or processes of its own."""

    limits: Limits
    alone: bool
    """Whether there can be no other beside it."""

    def side_by_side(self, shares: Sequence[Share]) -> "Sequence[ThreadedExecutor]":
        """An executor for each of several workers of this machine: this one, and others like it.

        Raises:
            EngineError: there can be no other.
        """

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


class ThreadedExecutor(Executor, Protocol):
    """An executor of one of several workers."""

    def start(self) -> Any:
        """Begin to start its processes."""

    def expect(self, cells: Sequence[Cell], *, save_models: bool) -> None:
        """Say which cells will run, where another executor sees to what they need."""

    def stop(self) -> None:
        """Have what runs in another thread end, within seconds."""

    def end(self) -> None:
        """End its processes."""


class Workers(Protocol):
    """An engine at work."""

    def submit(self, cell: str) -> None:
        """Take a cell, by its id."""

    def finished(self) -> Iterator[str]:
        """The ids of the cells that were submitted, as soon as each is over, in any order.

        Over means that its record was written, be it that of a failure, or that another runner has it: who asked looks
        which. What is not yielded before the end is left to whoever comes later.
        """

    def stop(self) -> None:
        """End all that runs, within seconds. Called when all is done, too."""


class Engine(Protocol):
    """A dataclass whose fields are its options: where the cells of a sweep run.

    It only hands out cells. What a worker does with one is not its business: ``ClaimedCells`` in this process, or the
    program ``prunebench.runner.engines.worker`` in any other that sees the results folder. It may have ``preview(work)
    -> str``, the text of the job that ``start`` would submit.
    """

    def start(self, work: "Work") -> Workers:
        """Begin to work on a sweep.

        Raises:
            UsageError: that cannot be; nothing runs.
        """


def _nobody_hears(_: str) -> Display:
    return Silent()


@dataclass(frozen=True)
class Work:
    """The cells of one sweep, and what they have in common.

    Args:
        cells: what is to run, by id.
        output: the results folder.
        before: the signature of each cell's record before the sweep.
        executor: runs a cell in this process.
        claims: of this process, on the folder's cells.
        fresh: run cells anew.
        save_models: keep the pruned models.
        verify: measure on fresh text too.
        every: seconds between two saves of a cell's progress.
        lease: seconds after which another runner that gives no sign is held for dead.
        command: the words of the command that asked for the sweep, without the engine; None where a program did.
        begin: to be called with the id of a cell when a worker begins it; gives the display that is told of it.
        tell: shows a line: a worker or a node is lost.
        fail: to be called with a cell's id and a reason when an engine gives it up; its record is that of a failure.
    """

    cells: Mapping[str, Cell]
    output: Path
    before: Mapping[str, Signature]
    executor: Executor
    claims: Claims
    fresh: bool = False
    save_models: bool = False
    verify: bool = False
    every: float = 60.0
    lease: float = LEASE
    command: tuple[str, ...] | None = None
    begin: Callable[[str], Display] = field(default=_nobody_hears)
    tell: Callable[[str], None] = field(default=lambda line: None)
    fail: Callable[[str, str], None] = field(default=lambda cell, why: None)

    @property
    def store(self) -> FolderStore:
        """Where the records are."""
        return FolderStore(self.output)

    def to_json(self) -> str:
        """What a worker in another process has to know, as JSON, for ``from_json``."""
        limits = self.executor.limits
        return json.dumps(
            {
                "cells": [cell.to_json() for cell in self.cells.values()],
                "output": str(self.output.resolve()),
                "folder": str(Path.cwd()),
                "before": self.before,
                "limits": [limits.seconds, limits.bytes],
                **{name: getattr(self, name) for name in PLAIN},
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes, executor: Callable[[Limits, float], Executor], **hears: Any) -> "Work":
        """The work of a sweep in another process.

        Args:
            text: what ``to_json`` wrote.
            executor: makes who runs cells, from their limits and ``every``.
            hears: ``begin``, ``tell`` and ``fail``.
        """
        content = json.loads(text)
        cells = [Cell.from_json(cell) for cell in content["cells"]]
        output = Path(content["output"])
        seen = {name: tuple(part and tuple(part) for part in pair) for name, pair in content["before"].items()}
        return cls(
            cells={cell.id: cell for cell in cells},
            output=output,
            before=seen,  # type: ignore[arg-type]
            executor=executor(Limits(*content["limits"]), content["every"]),
            claims=Claims(output, content["lease"]),
            **{name: content[name] for name in PLAIN},
            **hears,
        )


PLAIN = ("fresh", "save_models", "verify", "every", "lease")
