"""What the runner hears: a method's progress, notes, trace and amounts; and who shows it."""

from collections import Counter
from typing import Any, Protocol

from prunebench.records.record import Record
from prunebench.suite.cell import Cell


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


class EventRecorder:
    """Keeps what a method tells of itself, and passes it on to the display."""

    TRACE_ROWS = 256

    def __init__(self, display: Display) -> None:
        self._display = display
        self.notes: Counter[str] = Counter()
        self.rows: list[dict[str, float]] = []
        self.amounts: dict[str, Any] = {}
        self._every, self._calls = 1, 0

    def step(self, label: str, done: int, total: int | None) -> None:
        self._display.step(label, done, total)

    def note(self, what: str, where: dict[str, object]) -> None:
        self.notes[str(what)] += 1
        self._display.note(what, where)

    def trace(self, step: int, values: dict[str, float]) -> None:
        if self._calls % self._every == 0:
            self.rows.append({"step": int(step), **{str(name): float(value) for name, value in values.items()}})
        self._calls += 1
        if len(self.rows) == self.TRACE_ROWS:
            self.rows, self._every = self.rows[::2], self._every * 2
        self._display.trace(step, values)

    def account(self, amounts: dict[str, Any]) -> None:
        self.amounts.update(amounts)

    def state(self) -> dict[str, Any]:
        """All that was heard, as JSON, for ``restore``."""
        kept = {"rows": self.rows, "every": self._every, "calls": self._calls}
        return {"notes": dict(self.notes), "amounts": self.amounts, **kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Forget what was heard, and go on from what an interrupted run had heard."""
        self.notes, self.amounts = Counter(state["notes"]), state["amounts"]
        self.rows, self._every, self._calls = state["rows"], state["every"], state["calls"]
