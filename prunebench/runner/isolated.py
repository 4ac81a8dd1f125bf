"""Isolation: cells run in a worker process, started once and used again, and what kills it costs one cell only."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from prunebench import errors
from prunebench.errors import OutputError, PrunebenchError
from prunebench.records.record import SCHEMA, CellFacts, Failure, Record
from prunebench.records.store import read_latest, read_record, write_record
from prunebench.runner.claims import Abandoned
from prunebench.runner.environment import environment
from prunebench.runner.events import Display, EventRecorder
from prunebench.runner.saved_state import INTERVAL, SavedState
from prunebench.suite.cell import Cell
from prunebench.text import printable

TICK, LOOK = 0.2, 0.5  # seconds
MEMORY_LIMIT = "MemoryLimit"
GRACE = 5.0
TAIL = 20
ATTEMPTS = 3  # to prepare: what kills a process from outside may strike then too


@dataclass(frozen=True)
class Limits:
    """What a cell may take; None is without limit.

    Args:
        seconds: of wall clock, from its beginning to its record.
        bytes: of resident memory, of the worker and of the processes that it started.
    """

    seconds: float | None = None
    bytes: int | None = None


class _Died(Exception):  # noqa: N818 - no error of ours
    """The worker is gone, or was made to go.

    Args:
        kind: what a record calls it.
        why: half a line.
        signal: the signal that ended it.
    """

    def __init__(self, kind: str, why: str, signal: str | None = None) -> None:
        super().__init__(why)
        self.kind, self.signal = kind, signal


class _Worker:
    """One process of ``prunebench.runner.worker``, with what it says read by threads."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prunebench.runner.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the parent, which ends the worker in its own time
        )
        self.events: queue.Queue[list[Any] | None] = queue.Queue()
        self.said: deque[str] = deque(maxlen=TAIL)
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_events, self._read_stderr)]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):  # the last line of one that died may be half a line
                self.events.put(json.loads(line))
        self.events.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if not line.startswith("Extension modules:"):  # a screenful that faulthandler adds
                self.said.append(printable(line))
                with suppress(OSError, ValueError):  # nobody may be left to read it: the pipe is emptied all the same
                    sys.stderr.write(printable(line) + "\n")

    def send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its death is seen when its answer is waited for
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def resident(self) -> int:
        """Bytes of memory that it and its children occupy."""
        total = 0
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    total += each.memory_info().rss
        return total

    @property
    def ended(self) -> bool:
        """Whether the process is gone, though one that it started may still hold its pipes."""
        return self._process.poll() is not None

    def death(self) -> _Died:
        """How it ended, which it has, or is about to."""
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:  # it told no more, and stays
            self._process.kill()
            code = self._process.wait()
        for reader in self._readers:
            reader.join(timeout=1)
        if code >= 0:
            return _Died("WorkerEnded", f"the process ended with exit status {code}")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return _Died("WorkerKilled", f"the process was killed by {name}{hint}", name)

    def stop(self, grace: float) -> None:
        """End it: at once where it is idle, else when it has kept what it has, at the latest after ``grace`` s."""
        assert self._process.stdin is not None
        try:
            if grace:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            with suppress(OSError):
                self._process.stdin.close()


class Isolated:
    """An ``Executor`` that runs cells in a worker; a context manager, at whose end the worker is gone.

    Args:
        limits: what a cell may take.
        every: seconds between two saves of a cell's progress.
    """

    def __init__(self, limits: Limits | None = None, *, every: float = INTERVAL) -> None:
        self.limits = limits or Limits()
        self._every = every
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        self._ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(0)

    def _ready(self) -> _Worker:
        if self._worker is None:
            self._worker = _Worker()
        return self._worker

    def _end(self, grace: float) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop(grace)

    def prepare(self, cells: Sequence[Cell], output: Path, *, save_models: bool) -> None:
        """Let the worker see to what cells need; see ``prunebench.runner.run_cell.InProcess.prepare``.

        Raises:
            UsageError: what does not fit.
            OutputError: the worker died.
        """
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._prepare(cells, output, save_models)
            except _Died as death:
                self._end(0)
                if not left:
                    raise OutputError(
                        f"the process that runs cells died {ATTEMPTS} times while it read texts and tasks: {death}; "
                        "see what it wrote above, or try --in-process"
                    ) from None

    def _prepare(
        self, cells: Sequence[Cell], output: Path, save_models: bool, watch: Callable[[], None] = lambda: None
    ) -> None:
        import torch

        self._ready().send(
            {
                "prepare": [_plain(cell) for cell in cells],
                "output": str(output),
                "save_models": save_models,
                "threads": torch.get_num_threads(),
                "every": self._every,
            }
        )
        self._answer(lambda event: None, watch)

    def run(
        self, cell: Cell, output: Path, display: Display, *, save_models: bool, wanted: Callable[[], bool]
    ) -> Record:
        """Run a cell in the worker; see ``prunebench.runner.run_cell.InProcess.run``."""
        log = _Log(display)
        is_new = self._worker is None
        worker = self._ready()
        try:
            if is_new:  # it follows another that died; its start is not the cell's time
                self._prepare([], output, save_models, self._watch(wanted))
            worker.said.clear()
            worker.send({"run": _plain(cell), "output": str(output), "save_models": save_models})
            self._answer(log.hear, self._watch(wanted))
        except Abandoned:
            self._end(0)
            raise
        except _Died as death:
            self._end(0)
            if death.kind == MEMORY_LIMIT:  # what an attempt that goes on holds besides may be what was too much
                SavedState.of(output, cell).remove()
            return read_record(write_record(output, log.failed(cell, death, worker.said), {}))
        except BaseException:  # an interruption: the worker is gone before anybody else may have the cell
            self._end(GRACE)
            raise
        return read_latest(output, cell.id)

    def _watch(self, wanted: Callable[[], bool]) -> Callable[[], None]:
        """Called now and then, ends a cell that takes too much or that nobody waits for."""
        began, (seconds, most) = time.monotonic(), (self.limits.seconds, self.limits.bytes)

        def watch() -> None:
            if not wanted():
                raise Abandoned
            if seconds is not None and time.monotonic() - began > seconds:
                raise _Died("TimeLimit", f"still running after its timeout of {seconds:g} s")
            if most is not None and (resident := self._ready().resident()) > most:
                raise _Died(MEMORY_LIMIT, f"{_gib(resident)} resident, more than the memory_limit of {_gib(most)}")

        return watch

    def _answer(self, hear: Callable[[list[Any]], None], watch: Callable[[], None]) -> None:
        """Hear the worker until it is done."""
        worker, looked = self._ready(), time.monotonic()
        over = False  # the process was gone when all it had told was heard
        while True:
            try:
                event = worker.events.get(timeout=TICK)
            except queue.Empty:
                event, over = None if over else [], worker.ended
            if event is None:
                raise worker.death()
            match event:
                case ["done"]:
                    return
                case ["refused", kind, message]:
                    known = getattr(errors, kind, None)
                    raise (known if isinstance(known, type) and issubclass(known, PrunebenchError) else OutputError)(
                        message
                    )
                case [_, *_]:
                    hear(event)
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                watch()


class _Log:
    """What is heard of a cell that runs elsewhere: shown, and kept for the record of one that dies."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._events = EventRecorder(display)
        self._phase, self._step = "load", ""

    def hear(self, event: list[Any]) -> None:
        """Take one event of the worker."""
        match event:
            case ["phase", name]:
                self._phase, self._step = name, ""
                self._display.phase(name)
            case ["step", label, done, total]:
                self._step = f", {label} {done}" + ("" if total is None else f" of {total}")
                self._events.step(label, done, total)
            case ["note", what, where]:
                self._events.note(what, where)
            case ["trace", step, values]:
                self._events.trace(step, values)

    def failed(self, cell: Cell, death: _Died, said: Sequence[str]) -> Record:
        """The record of a cell whose worker died."""
        progress = f"{self._phase}{self._step}"
        return Record(
            schema_version=SCHEMA,
            cell=CellFacts.model_validate(cell.model_dump(mode="json")),
            status="failed",
            error=Failure(
                type=death.kind,
                message=f"{death} ({progress})",
                signal=death.signal,
                progress=progress,
                stderr="\n".join(said),
            ),
            notes=dict(self._events.notes),
            trace=tuple(self._events.rows),
            environment=_environment(cell),
        )


def _environment(cell: Cell) -> dict[str, Any]:
    try:
        return environment(cell)
    except Exception:  # what killed the worker may have taken the device along
        return {}


def _plain(cell: Cell) -> dict[str, Any]:
    return cell.model_dump(mode="json", exclude={"id", "key"})


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"
