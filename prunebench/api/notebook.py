"""Progress where a program shows it: in a notebook one piece of output that is updated, on a terminal one line."""

import copy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console

from prunebench.records.record import Forecast, Record
from prunebench.runner.progress import (
    PlainDisplay,
    ShownDisplay,
    counts_text,
    display_for,
    outcome_text,
    values_text,
)
from prunebench.suite.cell import Cell, sparsity_text
from prunebench.text import printable

Show = Callable[[str], None]
INTERVAL = 0.2  # seconds between two updates


class StatusLine:
    """A ``prunebench.runner.events.Display`` that says in one line where a call is.

    Args:
        show: takes the line, in place of the one before.
        title: what the line begins with.
    """

    def __init__(self, show: Show, title: str = "") -> None:
        self._show, self._title, self._phase, self._values = show, title, "", ""
        self._steps: dict[str, str] = {}
        self._shown = 0.0

    def _update(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._shown >= INTERVAL:
            self._shown = time.monotonic()
            self._show(" · ".join(filter(None, (self._title, self._phase, *self._steps.values(), self._values))))

    def start(self, cells: int, existing: int) -> None:
        """Not shown."""

    def begin(self, number: int, cell: Cell) -> None:
        """Not shown."""

    def phase(self, name: str) -> None:
        """Show another phase."""
        self._phase, self._steps, self._values = printable(name), {}, ""
        self._update(now=True)

    def step(self, label: str, done: int, total: int | None) -> None:
        """Show how far it is."""
        self._steps[label] = f"{printable(label)} {done}" if total is None else f"{printable(label)} {done}/{total}"
        self._update()

    def note(self, what: str, where: dict[str, object]) -> None:
        """Not shown: the result holds them."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Show an iterative method's numbers."""
        self._values = values_text(values)
        self._update()

    def end(self, record: Record, seconds: float) -> None:
        """Not shown."""


class NotebookDisplay(StatusLine):
    """A ``ShownDisplay``: a line for each finished cell, and one for the running one."""

    def __init__(self, show: Show) -> None:
        super().__init__(self._show_all)
        self._output, self._lines, self._cell, self._cells = show, [""], "", 0
        self._running: list[str] = [""]  # the state of each worker's cell
        self._place = 0

    def __enter__(self) -> "NotebookDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        self._output("\n".join(self._lines))

    def _show_all(self, line: str) -> None:
        self._running[self._place] = line
        self._output("\n".join([*self._lines, *self._running]))

    def another(self) -> "NotebookDisplay":
        """One that shows the cells of another worker below."""
        other = copy.copy(self)
        other._show, other._place = other._show_all, len(self._running)
        self._running.append("")
        return other

    def expect(self, cells: Sequence[Cell], records: Iterable[Record], forecasts: Mapping[str, Forecast]) -> None:
        """Not shown."""

    def start(self, cells: int, existing: int) -> None:
        """Show the number of cells."""
        self._cells, self._lines = cells, [counts_text(cells, existing)]
        self._update(now=True)

    def begin(self, number: int, cell: Cell) -> None:
        """Show which cell begins."""
        name = printable(f"{cell.model} {cell.method} {sparsity_text(cell)} s{cell.seed}")
        self._title = f"[{number}/{self._cells}] {name}"
        self.phase("")

    def end(self, record: Record, seconds: float) -> None:
        """Show how the cell ended."""
        self._lines.append(f"{self._title}: {outcome_text(record, seconds)}")
        self._title = ""
        self.phase("")


def in_notebook() -> bool:
    """Whether this program runs in a notebook's kernel."""
    return Console().is_jupyter


def output_cell() -> Show:
    """A function that shows a text in the notebook's output, in place of what it showed before."""
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text}, raw=True)


def sweep_display(progress: bool | None) -> ShownDisplay:
    """The display of a sweep: in a notebook, on a terminal, as lines where it is asked for elsewhere, or silent.

    Args:
        progress: whether to show it; None for in notebooks and on terminals.
    """
    if progress is not False:
        if in_notebook():
            return NotebookDisplay(output_cell())
        if progress or sys.stderr.isatty():
            return display_for(sys.stderr)
    return PlainDisplay(_Nowhere())  # type: ignore[arg-type]


class _Nowhere:
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        """Forget it."""
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def status_for(progress: bool | None) -> Iterator[StatusLine]:
    """The display of one call.

    Args:
        progress: whether to show it; None for in notebooks and on terminals.
    """
    shown: Any = nullcontext()
    show: Show = lambda text: None  # noqa: E731
    if progress is not False and in_notebook():
        show = output_cell()
    elif progress or (progress is None and sys.stderr.isatty()):
        shown = Console(stderr=True, highlight=False).status("")
        show = lambda text: shown.update(text)  # noqa: E731
    with shown:
        yield StatusLine(show)
