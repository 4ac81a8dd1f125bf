"""What listens to a method, an evaluation or a sweep, and remembers what it was told."""

from typing import Any

from prunebench.records.record import Record
from prunebench.suite.cell import Cell


class RecordingObserver:
    """Observes a method or an evaluation.

    Attributes:
        steps: (label, finished, total) of each report of progress.
        notes: (what was adjusted, where).
        traces: by traced step, its number and its named values.
        amounts: the last value of each amount.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int | None]] = []
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.traces: list[dict[str, float]] = []
        self.amounts: dict[str, Any] = {}

    @property
    def messages(self) -> list[str]:
        """What was adjusted, without where."""
        return [what for what, _ in self.notes]

    def step(self, label: str, done: int, total: int | None) -> None:
        self.steps.append((label, done, total))

    def note(self, what: str, where: dict[str, object]) -> None:
        self.notes.append((what, where))

    def trace(self, step: int, values: dict[str, float]) -> None:
        self.traces.append({"step": step, **values})

    def account(self, amounts: dict[str, Any]) -> None:
        self.amounts |= amounts


class SilentDisplay:
    """A display of a sweep that prints nothing.

    Attributes:
        existing: how many cells had a record already.
        begun: ids of the cells that began.
        steps: (label, finished, total) of each report of progress.
    """

    def __init__(self) -> None:
        self.existing = 0
        self.begun: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def start(self, cells: int, kept: int) -> None:
        self.existing = kept

    def begin(self, number: int, cell: Cell) -> None:
        self.begun.append(cell.id)

    def step(self, label: str, done: int, total: int | None) -> None:
        self.steps.append((label, done, total))

    def phase(self, name: str) -> None: ...
    def note(self, what: str, where: dict[str, object]) -> None: ...
    def trace(self, step: int, values: dict[str, float]) -> None: ...
    def end(self, record: Record, seconds: float) -> None: ...

    def expect(self, cells: object, records: object, forecasts: object) -> None: ...

    def another(self) -> "SilentDisplay":
        return self
