"""Who shows what: each cell that runs has a display of its own, and those of workers side by side share one place."""

import threading
import time
from collections.abc import Mapping

from prunebench.records.record import Record
from prunebench.runner.events import Display, SweepDisplay
from prunebench.suite.cell import Cell


class Board:
    """The displays of the cells that run.

    Args:
        display: of the sweep, which shows the first; others come from it.
        cells: all that are planned, by id, with their numbers.
    """

    def __init__(self, display: SweepDisplay, cells: Mapping[str, tuple[int, Cell]]) -> None:
        self._display, self._cells = display, cells
        self._free, self._running = [display], dict[str, tuple[SweepDisplay, float]]()
        self._lock = threading.Lock()

    def begin(self, cell: str) -> Display:
        """A cell begins, perhaps anew: the display that is told of it."""
        self.leave(cell)
        with self._lock:
            display = self._free.pop() if self._free else self._display.another()
            self._running[cell] = display, time.monotonic()
        display.begin(*self._cells[cell])
        return display

    def end(self, cell: str, record: Record) -> None:
        """A cell is over, of which an engine may not have told that it began; one that nobody here ran is not shown."""
        with self._lock:
            running = self._running.get(cell)
        if running is not None:
            display, began = running
            display.end(record, time.monotonic() - began)
            self.leave(cell)

    def leave(self, cell: str) -> None:
        """A cell runs here no more."""
        with self._lock:
            if (running := self._running.pop(cell, None)) is not None:
                self._free.append(running[0])
