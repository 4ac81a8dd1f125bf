"""Progress of a running sweep: a live display on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import takewhile
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from prunebench import text
from prunebench.records.record import Record
from prunebench.runner.pace import Pace
from prunebench.text import printable

if TYPE_CHECKING:
    from prunebench.suite.cell import Cell


PRUNE = "prune"  # the phase that measuring follows


class SweepDisplay(Protocol):
    """A ``prunebench.runner.events.Display`` that is also a context manager, shown while its block runs."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def start(self, cells: int, existing: int) -> None: ...
    def begin(self, number: int, cell: "Cell") -> None: ...
    def phase(self, name: str) -> None: ...
    def step(self, label: str, done: int, total: int | None) -> None: ...
    def note(self, what: str, where: dict[str, object]) -> None: ...
    def trace(self, step: int, values: dict[str, float]) -> None: ...
    def end(self, record: Record, seconds: float) -> None: ...


def sparsity_text(cell: "Cell") -> str:
    """The sparsity of a cell, with its allocation unless that is uniform: "0.7", "0.7 owl"."""
    return str(cell.sparsity) if cell.allocation == "uniform" else f"{cell.sparsity} {cell.allocation}"


def display_for(stream: TextIO) -> SweepDisplay:
    """The display for a stream: live on a terminal, else lines."""
    if stream.isatty():
        return LiveDisplay(Console(file=stream, highlight=False))
    return PlainDisplay(stream)


def outcome_text(record: Record, seconds: float) -> str:
    """How a cell ended, as part of a line: "ok, wikitext2/stream-128 5.31, prune 12 s" or the error."""
    if record.status == "failed":
        message = f"{record.error.type}: {record.error.message}" if record.error else "unknown error"
        return f"failed after {text.seconds(seconds)}: {printable(message)}"
    parts = ["ok"]
    for protocol, perplexity in list(record.perplexity.items())[:1]:
        parts.append(f"{printable(protocol)} {text.number(perplexity.value)}")
    if record.cost.prune_seconds is not None:
        parts.append(f"prune {text.seconds(record.cost.prune_seconds)}")
    if record.cost.evaluate_seconds is not None:
        parts.append(f"measure {text.seconds(record.cost.evaluate_seconds)}")
    if noted := sum(record.notes.values()):
        parts.append(text.counted(noted, "note"))
    return ", ".join(parts)


def counts_text(cells: int, existing: int) -> str:
    """How many cells a sweep has, and how many of them are to run."""
    suffix = f", {existing} already there" if existing else ""
    return f"{text.counted(cells, 'cell')}: {cells - existing} to run{suffix}"


def values_text(values: Mapping[str, float]) -> str:
    """The trace values of an iterative method at one step, as text."""
    return ", ".join(f"{printable(name)} {value:.4g}" for name, value in values.items())


class PlainDisplay:
    """One line when a cell begins and one when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._cells = 0
        self._cell = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _print(self, line: str) -> None:
        with suppress(OSError, ValueError):  # the sweep goes on even if its terminal is closed
            self._stream.write(line + "\n")
            self._stream.flush()

    def start(self, cells: int, existing: int) -> None:
        """Print the number of cells."""
        self._cells = cells
        self._print(counts_text(cells, existing))

    def begin(self, number: int, cell: "Cell") -> None:
        """Print which cell begins."""
        name = printable(f"{cell.model} {cell.method} {sparsity_text(cell)} s{cell.seed}")
        self._cell = f"[{number}/{self._cells}] {name}"
        self._print(f"{self._cell} …")

    def phase(self, name: str) -> None:
        """Not shown."""

    def step(self, label: str, done: int, total: int | None) -> None:
        """Not shown."""

    def note(self, what: str, where: dict[str, object]) -> None:
        """Not shown one by one: the record counts them."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Not shown."""

    def end(self, record: Record, seconds: float) -> None:
        """Print how the cell ended."""
        self._print(f"{self._cell}: {outcome_text(record, seconds)}")


class LiveDisplay:
    """A progress bar over all cells and the state of the running one; finished cells scroll by above, a line each."""

    REFRESHES_PER_SECOND = 4

    def __init__(self, console: Console) -> None:
        self._console = console
        self._cells = self._existing = self._ended = self._failed = 0
        self._number = 0
        self._cell = self._phase = self._values = ""
        self._steps: dict[str, str] = {}
        self._ran = self._measured = 0.0
        self._pace: Pace | None = None
        self._started = self._cell_started = time.monotonic()
        self._live = Live(
            console=console,
            get_renderable=self._view,
            refresh_per_second=self.REFRESHES_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def start(self, cells: int, existing: int) -> None:
        """Start the live display."""
        self._cells, self._existing = cells, existing
        self._started = time.monotonic()
        self._console.print(Text(counts_text(cells, existing)))
        if cells > existing:
            self._live.start()

    def begin(self, number: int, cell: "Cell") -> None:
        """Show another cell."""
        self._number, self._cell_started = number, time.monotonic()
        self._cell = printable(f"{cell.model} · {cell.method} · {sparsity_text(cell)} · seed {cell.seed}")
        self._phase, self._steps, self._values, self._pace = "", {}, "", None

    def phase(self, name: str) -> None:
        """Show another phase."""
        self._phase, self._steps, self._values, self._pace = printable(name), {}, "", None

    def step(self, label: str, done: int, total: int | None) -> None:
        """Show the step in progress, the one after those done; loops may be nested."""
        outer = takewhile(lambda item: item[0] != label, self._steps.items())
        position = f"{printable(label)} {done}" if total is None else f"{printable(label)} {done + 1}/{total}"
        current = {} if done == total else {label: position}
        self._steps = {**dict(outer), **current}
        pace = self._pace
        if total is not None and (pace is None or pace.label == label or pace.ended):
            self._pace = pace if pace and pace.label == label else Pace(label)  # of the outermost loop alone
            self._pace.take(done, total, time.monotonic())

    def note(self, what: str, where: dict[str, object]) -> None:
        """Not shown one by one: the record counts them."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Show an iterative method's numbers."""
        self._values = values_text(values)

    def end(self, record: Record, seconds: float) -> None:
        """Print the finished cell above the live display."""
        self._ended += 1
        self._failed += record.status == "failed"
        self._ran += seconds
        self._measured += record.cost.evaluate_seconds or 0.0
        line = Text(f"[{self._number}/{self._cells}] {self._cell}: ")
        line.append(outcome_text(record, seconds), style="red" if record.status == "failed" else "")
        self._live.console.print(line, soft_wrap=True)
        self._cell, self._phase, self._steps, self._values, self._pace = "", "", {}, "", None

    def _view(self) -> RenderableType:
        """The current display; called from the refresh thread."""
        done = self._existing + self._ended
        parts = [f"{done}/{self._cells} cells", clock_text(time.monotonic() - self._started)]
        if (left := self._seconds_left()) is not None:
            parts.append(f"about {clock_text(left)} left")
        if self._failed:
            parts.append(f"{self._failed} failed")
        summary = Text(" · ".join(parts), no_wrap=True, overflow="ellipsis")
        header = Grid.grid(padding=(0, 1), expand=True)
        header.add_column(ratio=1, min_width=4)
        header.add_column(no_wrap=True, overflow="ellipsis")
        header.add_row(ProgressBar(total=max(self._cells, 1), completed=done), summary)
        details = " · ".join(filter(None, (self._phase, *self._steps.values(), self._values)))
        heading = f"[{self._number}/{self._cells}] {self._cell}" if self._cell else ""
        lines = (
            Text(line, no_wrap=True, overflow="ellipsis") for line in (heading, f"    {details}" if details else "")
        )
        return Group(header, *lines)

    def _seconds_left(self) -> float | None:
        """Seconds left: of the running cell by the rate of its steps, of the rest by the mean of the cells before.

        None before there is either.
        """
        now = time.monotonic()
        mean = self._ran / self._ended if self._ended else None
        ran = now - self._cell_started if self._cell else 0.0
        of_cell = self._pace.left(now) if self._pace is not None else None
        if of_cell is not None and self._ended and self._phase == PRUNE:
            of_cell += self._measured / self._ended
        if of_cell is None:
            if mean is None:
                return None
            of_cell = max(mean - ran, 0.0) if self._cell else 0.0
        others = self._cells - self._existing - self._ended - bool(self._cell)
        return max(of_cell + others * (ran + of_cell if mean is None else mean), 0.0)


def clock_text(seconds: float) -> str:
    """A duration in seconds as a clock shows it: 0:42, 3:05, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
