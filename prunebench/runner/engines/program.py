"""A worker in another process, as the one sees it that started it; see ``prunebench.runner.engines.worker``."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prunebench.errors import EngineError

if TYPE_CHECKING:  # a process that only starts a worker need not import torch
    from prunebench.records.record import Record
    from prunebench.runner.engines.interface import Work
    from prunebench.runner.events import Display

INTERVAL = 0.5  # seconds between two events that only say how far a cell is
END = 15.0  # seconds for a worker to end
Event = list[Any]


class WorkerLost(Exception):  # noqa: N818 - no error of ours
    """A worker ended without having been asked to."""


class Told:
    """A ``Display`` whose cell is shown elsewhere: it says what it is told.

    Args:
        cell: the cell's id.
        say: takes an event.
    """

    def __init__(self, cell: str, say: Callable[..., None]) -> None:
        self._cell, self._say, self._said = cell, say, 0.0

    def phase(self, name: str) -> None:
        self._say("phase", self._cell, name)

    def step(self, label: str, done: int, total: int | None) -> None:
        self._now_and_then("step", label, done, total)

    def trace(self, step: int, values: dict[str, float]) -> None:
        self._now_and_then("trace", step, values)

    def note(self, what: str, where: dict[str, object]) -> None: ...
    def start(self, cells: int, existing: int) -> None: ...
    def begin(self, number: int, cell: Any) -> None: ...
    def end(self, record: "Record", seconds: float) -> None: ...

    def another(self) -> "Told":
        return self

    def _now_and_then(self, event: str, *content: Any) -> None:
        if time.monotonic() - self._said >= INTERVAL:
            self._said = time.monotonic()
            self._say(event, self._cell, *content)


class Relay:
    """Shows in this process what workers elsewhere say.

    Args:
        work: the sweep.
    """

    def __init__(self, work: "Work") -> None:
        self._work = work
        self._displays: dict[str, Display] = {}

    @property
    def heard(self) -> bool:
        """Whether any cell has begun."""
        return bool(self._displays)

    def hear(self, event: Event) -> None:
        """Take one event."""
        name, cell, *content = event
        if name == "begin":
            self._displays[cell] = self._work.begin(cell)
        elif cell in self._displays and name in ("phase", "step", "trace"):
            getattr(self._displays[cell], name)(*content)


class WorkerProgram:
    """A worker in a process of its own.

    Args:
        work: what ``Work.to_json`` wrote.
        words: the command that runs a Python module's name after ``-m``, as ["ssh", "node", "python"].
        variables: environment variables besides this process's own.
    """

    def __init__(
        self, work: str, words: Sequence[str] = (sys.executable,), variables: Mapping[str, str] | None = None
    ) -> None:
        try:
            self._process = subprocess.Popen(
                [*words, "-m", "prunebench.runner.engines.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={**os.environ, **(variables or {})},
                start_new_session=True,  # Ctrl-C is for the one that started it
            )
        except OSError as error:
            raise EngineError(f"no worker can be started by {words[0]}: {error.strerror}") from None
        self._send(work)

    @property
    def pid(self) -> int:
        """Its process id, or that of the command which started it."""
        return self._process.pid

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # its end is seen when it is listened to
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def run(self, cell: str, *, retry: bool = False) -> Iterator[Event]:
        """Run a cell; the events until it is over.

        Raises:
            UsageError: the worker refuses the sweep.
            WorkerLost: it died.
        """
        self._send(json.dumps([cell, retry]))
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, *content = event = json.loads(line)
            if name == "refused":
                from prunebench.runner.processes.child import raise_refusal

                self.stop()
                raise_refusal(*content)
            if name == "done":
                return
            yield event
        code = self._process.wait()
        raise WorkerLost(f"it was killed by signal {-code}" if code < 0 else f"it ended with exit status {code}")

    def stop(self) -> None:
        """End it, within seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
