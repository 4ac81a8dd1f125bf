"""Progress of a running sweep: a live display on a terminal, plain lines elsewhere."""

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from prunebench import text
from prunebench.records.record import Forecast, Record
from prunebench.runner.events import SweepDisplay
from prunebench.runner.time_left import Course, Left, TimeLeft
from prunebench.suite.cell import Cell, sparsity_text
from prunebench.text import hanging, printable


class ShownDisplay(SweepDisplay, Protocol):
    """A display that is also a context manager, shown while its block runs."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def display_for(stream: TextIO) -> ShownDisplay:
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

    def begin(self, number: int, cell: Cell) -> None:
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

    def expect(self, cells: Sequence[Cell], records: Iterable[Record], forecasts: Mapping[str, Forecast]) -> None:
        """Not shown."""

    def another(self) -> Self:
        """One that prints the lines of another worker's cells."""
        return copy.copy(self)


class _Running:
    """The cell that one worker runs."""

    def __init__(self) -> None:
        self.cell = self.phase = self.values = ""
        self.steps: dict[str, str] = {}
        self.course: Course | None = None

    def details(self, width: int) -> str:
        """Where it is, with as many of the method's values as fit: of one that is cut off, nobody knows what it is."""
        values = self.values.split(", ")
        for count in range(len(values), -1, -1):
            shown = " · ".join(filter(None, (self.phase, *self.steps.values(), ", ".join(values[:count]))))
            if len(shown) <= width:
                break
        return shown


@dataclass
class _Sweep:
    """What all workers of a sweep have in common."""

    cells: int = 0
    existing: int = 0
    ended: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    running: list[_Running] = field(default_factory=list)
    time: TimeLeft = field(default_factory=TimeLeft)

    def left(self) -> Left | None:
        """The time left; None while nothing is known of it."""
        courses = [course for each in self.running if (course := each.course) is not None]
        return self.time.left(courses, len(self.running), time.monotonic())


class LiveDisplay:
    """A progress bar over all cells and the state of those that run; finished cells scroll by above, a line each."""

    REFRESHES_PER_SECOND = 4

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running = _Running()
        self._sweep = _Sweep(running=[self._running])
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
        self._sweep.cells, self._sweep.existing = cells, existing
        self._sweep.started = time.monotonic()
        self._console.print(Text(counts_text(cells, existing)))
        if cells > existing:
            self._live.start()

    def expect(self, cells: Sequence[Cell], records: Iterable[Record], forecasts: Mapping[str, Forecast]) -> None:
        """Take what there is to tell how long the cells will take."""
        self._sweep.time.expect(cells, records, forecasts)

    def another(self) -> Self:
        """One that shows the cells of another worker below."""
        other = copy.copy(self)
        other._running = _Running()
        self._sweep.running.append(other._running)
        return other

    def begin(self, number: int, cell: Cell) -> None:
        """Show another cell."""
        name = printable(f"{cell.model} · {cell.method} · {sparsity_text(cell)} · seed {cell.seed}")
        self._running.course = self._sweep.time.begin(cell, time.monotonic())
        self._running.cell = f"[{number}/{self._sweep.cells}] {name}"
        self.phase("")

    def phase(self, name: str) -> None:
        """Show another phase."""
        self._running.phase, self._running.steps, self._running.values = printable(name), {}, ""
        if self._running.course is not None:
            self._running.course.enter(name, time.monotonic())

    def step(self, label: str, done: int, total: int | None) -> None:
        """Show the step in progress, the one after those done; loops may be nested."""
        outer = takewhile(lambda item: item[0] != label, self._running.steps.items())
        position = f"{printable(label)} {done}" if total is None else f"{printable(label)} {done + 1}/{total}"
        current = {} if done == total else {label: position}
        self._running.steps = {**dict(outer), **current}
        if self._running.course is not None:
            self._running.course.step(label, done, total, time.monotonic())

    def note(self, what: str, where: dict[str, object]) -> None:
        """Not shown one by one: the record counts them."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Show an iterative method's numbers."""
        self._running.values = values_text(values)

    def end(self, record: Record, seconds: float) -> None:
        """Print the finished cell above the live display."""
        self._sweep.ended += 1
        self._sweep.failed += record.status == "failed"
        if self._running.course is not None:
            self._sweep.time.end(self._running.course, record, time.monotonic())
            self._running.course = None
        console = self._live.console
        lines = hanging(f"{self._running.cell}: {outcome_text(record, seconds)}", console.width)
        console.print(Text(lines, style="red" if record.status == "failed" else ""), soft_wrap=True)
        self._running.cell = ""
        self.phase("")

    def _view(self) -> RenderableType:
        """The current display; called from the refresh thread."""
        sweep = self._sweep
        done = sweep.existing + sweep.ended
        parts = [f"{done}/{sweep.cells} cells", clock_text(time.monotonic() - sweep.started)]
        if (left := sweep.left()) is not None:
            parts.append(f"{'over' if left.at_least else 'about'} {clock_text(left.seconds)} left")
        if sweep.failed:
            parts.append(f"{sweep.failed} failed")
        summary = Text(" · ".join(parts), no_wrap=True, overflow="ellipsis")
        header = Grid.grid(padding=(0, 1), expand=True)
        header.add_column(ratio=1, min_width=4)
        header.add_column(no_wrap=True, overflow="ellipsis")
        header.add_row(ProgressBar(total=max(sweep.cells, 1), completed=done), summary)
        lines = []
        for each in list(sweep.running):
            details = each.details(self._console.width - 4)
            lines += [each.cell, f"    {details}" if details else ""]
        return Group(header, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def clock_text(seconds: float) -> str:
    """A duration in seconds as a clock shows it: 0:42, 3:05, 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
