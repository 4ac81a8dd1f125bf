"""Cells run wherever a command leads."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from prunebench.runner.engines.interface import Work
from prunebench.runner.engines.program import Relay, WorkerProgram


@dataclass(frozen=True)
class Through:
    """One worker, started by a command: another machine, a container, a lower priority.

    Args:
        command: what comes before the interpreter, as [ssh, node] or [nice].
        python: the interpreter there; by default this one.
    """

    command: tuple[str, ...] = ()
    python: str = sys.executable

    def start(self, work: Work) -> "Worker":
        """Start the worker."""
        return Worker(work, [*self.command, self.python])


class Worker:
    """Runs one cell after another in its program."""

    def __init__(self, work: Work, words: list[str]) -> None:
        self._program, self._relay = WorkerProgram(work.to_json(), words), Relay(work)
        self._waiting: list[str] = []

    def submit(self, cell: str) -> None:
        """Take a cell."""
        self._waiting.append(cell)

    def finished(self) -> Iterator[str]:
        """Run the cells, and pass on what the worker says of them."""
        while self._waiting:
            for event in self._program.run(self._waiting[0]):
                self._relay.hear(event)
            yield self._waiting.pop(0)

    def stop(self) -> None:
        """End the worker."""
        self._program.stop()
