"""What the runner hears: a method's progress, notes, trace and amounts; and who shows it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from prunebench.records.record import Forecast, Record
from prunebench.suite.cell import Cell

# What is kept of what a method says of itself. More of it is cut off, counted under one name, or thinned.
NOTES, NOTE_LENGTH, NAME_LENGTH = 1000, 1000, 500
TRACE_ROWS, TRACE_VALUES = 256, 64
FURTHER = "further notes"


class Display(Protocol):
    """What shows a sweep's progress."""

    def start(self, cells: int, existing: int) -> None:
        """``cells`` are planned, of which ``existing`` have their record already."""

    def begin(self, number: int, cell: Cell) -> None:
        """Cell ``number`` (from 1, among all planned) begins."""

    def phase(self, name: str) -> None:
        """The cell enters a phase: load, prune, check, or the name of an evaluation."""

    def step(self, label: str, done: int, total: int | None) -> None:
        """Progress within a phase."""

    def note(self, what: str, where: dict[str, object]) -> None:
        """An adjustment."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Where an iterative method stands."""

    def end(self, record: Record, seconds: float) -> None:
        """The cell is over and its record written."""


class SweepDisplay(Display, Protocol):
    """What shows the progress of several workers."""

    def expect(self, cells: Sequence[Cell], records: Iterable[Record], forecasts: Mapping[str, Forecast]) -> None:
        """``cells`` are to run, in this order; from records of others, and forecasts by id, it may tell how long."""

    def another(self) -> "SweepDisplay":
        """The same for the cells of another worker, which run at the same time."""


class Silent:
    """A ``Display`` that shows nothing."""

    def start(self, cells: int, existing: int) -> None: ...
    def begin(self, number: int, cell: Cell) -> None: ...
    def phase(self, name: str) -> None: ...
    def step(self, label: str, done: int, total: int | None) -> None: ...
    def note(self, what: str, where: dict[str, object]) -> None: ...
    def trace(self, step: int, values: dict[str, float]) -> None: ...
    def end(self, record: Record, seconds: float) -> None: ...

    def expect(self, cells: Sequence[Cell], records: Iterable[Record], forecasts: Mapping[str, Forecast]) -> None: ...

    def another(self) -> "Silent":
        return self


class EventRecorder:
    """Keeps what a method tells of itself, within bounds, and passes it on to the display."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.notes: Counter[str] = Counter()
        self.rows: list[dict[str, float]] = []
        self.amounts: dict[str, Any] = {}
        self._every, self._calls = 1, 0

    def step(self, label: str, done: int, total: int | None) -> None:
        self.display.step(str(label)[:NAME_LENGTH], int(done), None if total is None else int(total))

    def note(self, what: str, where: dict[str, object]) -> None:
        name = str(what)[:NOTE_LENGTH]
        self.notes[name if name in self.notes or len(self.notes) < NOTES else FURTHER] += 1
        self.display.note(name, where)

    def trace(self, step: int, values: dict[str, float]) -> None:
        named = {str(name)[:NAME_LENGTH]: float(value) for name, value in list(values.items())[:TRACE_VALUES]}
        if self._calls % self._every == 0:
            self.rows.append({"step": int(step), **named})
        self._calls += 1
        if len(self.rows) == TRACE_ROWS:
            self.rows, self._every = self.rows[::2], self._every * 2
        self.display.trace(int(step), named)

    def account(self, amounts: dict[str, Any]) -> None:
        for name, amount in amounts.items():
            before = self.amounts.get(name)
            # Of layers one after another, each adds its own; a run that resumes adds to what it had heard.
            if isinstance(before, dict) and isinstance(amount, dict):
                amount = before | amount
            self.amounts[name] = amount

    def state(self) -> dict[str, Any]:
        """All that was heard, as JSON, for ``restore``."""
        kept = {"rows": self.rows, "every": self._every, "calls": self._calls}
        return {"notes": dict(self.notes), "amounts": self.amounts, **kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Forget what was heard, and go on from what an interrupted run had heard."""
        self.notes, self.amounts = Counter(state["notes"]), state["amounts"]
        self.rows, self._every, self._calls = state["rows"], state["every"], state["calls"]
