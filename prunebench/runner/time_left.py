"""The time that a sweep has left: of cells that run by the rate of their steps, of others by cells like them.

Nothing is known of a method but what it tells every listener: which loops it runs, and how many steps are done. What
follows the running loop is taken from cells that ended: of the same kind, or for what follows pruning of the same
model; else from records of an earlier run, or from a forecast.
"""

import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from prunebench.runner.pace import Pace

if TYPE_CHECKING:
    from prunebench.records.cell_facts import CellFacts
    from prunebench.records.record import Forecast, Record
    from prunebench.suite.cell import Cell

PRUNE = "prune"  # the phase, one for each stage, that depends on the method most
BEFORE_MEASURING = ("", "load", "allocate", PRUNE, "check")

Place = tuple[str, int, str, int]
"""A phase and how many of its name came before; a loop in it and how many loops came before, or "" and 0."""


@dataclass(frozen=True)
class Left:
    """Seconds left, and whether there is more to come of which nothing is known yet."""

    seconds: float
    at_least: bool = False


def kind_of(cell: "Cell | CellFacts") -> str:
    """What cells have in common that take about as long to prune: all but the sparsity's number, and the seed."""
    stages = [(stage.plugin, stage.options) for stage in cell.stages]
    return json.dumps([cell.model, cell.allocation, cell.pattern.kind, stages], sort_keys=True, default=str)


class Course:
    """How a cell goes: its phases, and the loops in them.

    Args:
        cell: it.
        began: by the monotonic clock, as all moments here.
    """

    def __init__(self, cell: "Cell | CellFacts", began: float) -> None:
        self.model, self.kind, self.id = cell.model, kind_of(cell), cell.id
        self.stages = max(len(cell.stages), 1)
        self.began = self.entered = began
        self.phase: tuple[str, int] = ("", 0)
        self.pace: Pace | None = None
        self.resumed = False  # it is no measure for others
        self.ends: dict[Place, float] = {}
        self.rates: dict[Place, float] = {}
        self.seconds: dict[Place, float] = {}
        self._phases: list[str] = []
        self._loops = 0

    @property
    def place(self) -> Place:
        """Of the phase."""
        return (*self.phase, "", 0)

    @property
    def loop(self) -> Place | None:
        """Of the outermost loop that runs, or ran last in this phase."""
        return None if self.pace is None else (*self.phase, self.pace.label, self._loops)

    @property
    def pruning(self) -> int:
        """How many stages have begun to prune."""
        return self._phases.count(PRUNE)

    def enter(self, name: str, now: float) -> None:
        """The next phase begins."""
        self._leave(now)
        self.phase, self.entered = (name, self._phases.count(name)), now
        self._phases.append(name)
        self.pace, self._loops = None, 0

    def step(self, label: str, done: int, total: int | None, now: float) -> None:
        """Note a step; only those of the outermost loop count."""
        if total is None or not (self.pace is None or self.pace.label == label or self.pace.ended):
            return
        if self.pace is None or self.pace.label != label or self.pace.ended:
            self._loops += self.pace is not None
            self.pace = Pace(label)
        self.pace.take(done, total, now)
        self.resumed |= self.pace.first > 0
        if self.pace.ended and self.loop is not None:
            self.ends[self.loop] = now
            if (rate := self.pace.rate(whole=True)) is not None:
                self.rates[self.loop] = rate

    def _leave(self, now: float) -> None:
        self.ends[self.place], self.seconds[self.place] = now, now - self.entered

    def end(self, now: float) -> "Known":
        """The cell is over."""
        self._leave(now)
        rest = {place: now - ended for place, ended in self.ends.items()}
        return Known(self.model, self.kind, now - self.began, self.seconds, rest, self.rates)


@dataclass(frozen=True)
class Known:
    """A cell that ended.

    Args:
        model, kind: its.
        whole: seconds it took.
        seconds: of each phase.
        rest: seconds from the end of each phase and loop to the end of the cell.
        rates: seconds a step of each loop.
    """

    model: str
    kind: str
    whole: float
    seconds: Mapping[Place, float]
    rest: Mapping[Place, float]
    rates: Mapping[Place, float]


@dataclass(frozen=True)
class Costs:
    """Seconds that pruning and measuring took, or are foretold to take; None where that is not known."""

    prune: float | None
    evaluate: float | None

    @property
    def whole(self) -> float | None:
        return None if self.prune is None or self.evaluate is None else self.prune + self.evaluate


class TimeLeft:
    """What a sweep knows of how long its cells take."""

    def __init__(self) -> None:
        self._ahead: dict[str, str] = {}  # the kind of each cell, by its id
        self._ended: list[Known] = []
        self._overheads: list[float] = []  # what cells took besides pruning and measuring
        self._recorded: dict[str, list[Costs]] = {}  # by kind, and by model
        self._forecasts: Mapping[str, Forecast] = {}

    def expect(
        self,
        cells: Iterable["Cell"],
        records: Iterable["Record"] = (),
        forecasts: Mapping[str, "Forecast"] | None = None,
    ) -> None:
        """A sweep begins.

        Args:
            cells: that are to run, in their order.
            records: of cells that ran before.
            forecasts: by the id of a cell.
        """
        self._ahead, self._forecasts = {cell.id: kind_of(cell) for cell in cells}, forecasts or {}
        for record in records:
            costs = Costs(record.cost.prune_seconds, record.cost.evaluate_seconds)
            for key in (kind_of(record.cell), record.cell.model) if record.status == "ok" else ():
                self._recorded.setdefault(key, []).append(costs)

    def begin(self, cell: "Cell | CellFacts", now: float) -> Course:
        """A cell begins."""
        self._ahead.pop(cell.id, None)
        return Course(cell, now)

    def end(self, course: Course, record: "Record", now: float) -> None:
        """A cell is over; one that failed, or went on from a saved state, is no measure for others."""
        if record.status != "ok" or course.resumed or not course.pruning:
            return
        known, cost = course.end(now), record.cost
        self._ended.append(known)
        if cost.prune_seconds is not None and cost.evaluate_seconds is not None:
            self._overheads.append(max(known.whole - cost.prune_seconds - cost.evaluate_seconds, 0.0))

    def left(self, running: Sequence[Course], workers: int, now: float) -> Left | None:
        """Seconds until the last cell of the sweep ends; None while nothing is known.

        Args:
            running: the cells that run.
            workers: how many run at a time.
            now: by the monotonic clock.
        """
        own = [self._of(course, now) for course in running]
        ended = [(known.kind, known.whole) for known in self._ended]
        begun = [
            (course.kind, now - course.began + left.seconds)
            for course, left in zip(running, own, strict=True)
            if left is not None
        ]
        if not ended and not begun:
            return None
        usual = fmean(whole for _, whole in (*ended, *begun))
        busy = [
            left or Left(max(usual - (now - course.began), 0.0), at_least=True)
            for course, left in zip(running, own, strict=True)
        ]
        at_least = any(left.at_least for left in busy)
        by_ended, by_begun = _mean_by_kind(ended), _mean_by_kind(begun)
        ends = [0.0] * max(workers - len(busy), 0) + [left.seconds for left in busy]  # when each worker is free
        heapq.heapify(ends)
        for cell, kind in list(self._ahead.items()):
            known = (by_ended.get(kind), self._elsewhere(kind, cell), by_begun.get(kind))
            whole = next((seconds for seconds in known if seconds is not None), None)
            at_least |= whole is None
            heapq.heapreplace(ends, ends[0] + (usual if whole is None else whole))
        return Left(max(ends), at_least)

    def _elsewhere(self, kind: str, cell: str) -> float | None:
        """Seconds of a whole cell by records or a forecast."""
        recorded = [costs.whole for costs in self._recorded.get(kind, ()) if costs.whole is not None]
        foretold = self._forecast(cell).whole
        overhead = fmean(self._overheads) if self._overheads else 0.0
        if recorded:
            return fmean(recorded) + overhead
        return None if foretold is None else foretold + overhead

    def _forecast(self, cell: str) -> Costs:
        known = self._forecasts.get(cell)
        return Costs(None, None) if known is None else Costs(known.prune_seconds, known.evaluate_seconds)

    def _of(self, course: Course, now: float) -> Left | None:
        """Seconds until a cell that runs ends; None while nothing is known."""
        same = [known for known in self._ended if known.kind == course.kind]
        in_loop, (phase, _) = self._loop_left(course, same, now), course.phase
        pruned = course.pruning == course.stages and phase != PRUNE
        if not same and not pruned and (in_loop is None or course.pruning < course.stages):
            if (whole := self._elsewhere(course.kind, course.id)) is not None:
                return Left(max(whole - (now - course.began), 0.0))
            return None if in_loop is None else Left(in_loop, at_least=True)  # another stage follows
        if in_loop is not None and course.loop is not None and (rest := _mean(same, "rest", course.loop)) is not None:
            return Left(in_loop + rest)
        alike = same or [known for known in self._ended if known.model == course.model] or self._ended
        if (current := in_loop) is None:
            usual = _mean(same if phase == PRUNE else alike, "seconds", course.place)
            current = max((usual or 0.0) - (now - course.entered), 0.0)
        if (rest := _mean(alike, "rest", course.place)) is None:
            rest = self._measuring(course) if phase in BEFORE_MEASURING else 0.0
        return Left(current + (rest or 0.0), at_least=rest is None)

    def _loop_left(self, course: Course, same: Sequence[Known], now: float) -> float | None:
        if course.pace is None or course.loop is None:
            return None
        return course.pace.left(now, _mean(same, "rates", course.loop))

    def _measuring(self, course: Course) -> float | None:
        """Seconds that measuring takes by records or a forecast; None where there is neither."""
        recorded = [c.evaluate for c in self._recorded.get(course.model, ()) if c.evaluate is not None]
        return fmean(recorded) if recorded else self._forecast(course.id).evaluate


def _mean(cells: Iterable[Known], what: str, place: Place) -> float | None:
    found = [getattr(known, what)[place] for known in cells if place in getattr(known, what)]
    return fmean(found) if found else None


def _mean_by_kind(cells: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for kind, seconds in cells:
        found.setdefault(kind, []).append(seconds)
    return {kind: fmean(seconds) for kind, seconds in found.items()}
