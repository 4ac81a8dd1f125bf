"""The time that a sweep has left, on sweeps made up second by second."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from prunebench.records.record import Forecast, Record
from prunebench.runner.pace import Pace
from prunebench.runner.progress import LiveDisplay
from prunebench.runner.time_left import Course, TimeLeft
from tests.helpers.records import record

PHASES = (("load", 1.0), ("prune", 100.0), ("check", 2.0), ("check", 3.0), ("perplexity", 12.0))


class TestPace:
    def test_time_left_follows_the_rate_of_the_steps(self) -> None:
        pace = Pace("step")
        pace.take(0, 100, 10.0)
        assert pace.left(11.0) is None
        pace.take(25, 100, 60.0)  # two seconds a step
        assert pace.left(60.0) == 150.0
        assert pace.left(61.0) == 149.0
        pace.take(75, 100, 160.0)
        assert pace.left(160.0) == 50.0
        assert pace.left(1000.0) == 0.0

    def test_what_was_there_before_does_not_count_as_fast(self) -> None:
        """As of a cell that went on from a saved state."""
        pace = Pace("step")
        pace.take(90, 100, 0.0)
        pace.take(95, 100, 10.0)
        assert pace.left(10.0) == 10.0

    def test_a_loop_that_begins_again_is_timed_anew(self) -> None:
        pace = Pace("step")
        for done, now in ((0, 0.0), (10, 1.0), (0, 50.0), (5, 100.0)):
            pace.take(done, 10, now)
        assert pace.left(100.0) == 50.0

    def test_the_first_steps_do_not_count_later(self) -> None:
        """They pay for what is set up once."""
        pace = Pace("step")
        pace.take(0, 1000, 0.0)
        for done in range(1, 101):
            pace.take(done, 1000, 50.0 + done)
        assert pace.left(150.0) == 900.0

    def test_steps_of_which_some_cost_more(self) -> None:
        """As of ELSA, which projects at every eighth: it is the mean that counts, also of more steps than are kept."""
        pace, now = Pace("step"), 0.0
        pace.take(0, 4000, 0.0)
        for done in range(1, 2001):
            now += 3.0 if done % 8 == 0 else 1.0
            pace.take(done, 4000, now)
        assert pace.left(now) == pytest.approx(2000 * 10 / 8, rel=0.01)

    def test_loops_before_count_at_first(self) -> None:
        pace = Pace("step")
        pace.take(0, 100, 0.0)
        pace.take(25, 100, 50.0)  # 2 seconds a step, 1 before
        assert pace.left(50.0, usual=1.0) == 75 * 1.5
        pace.take(99, 100, 198.0)
        assert pace.left(198.0, usual=1.0) == pytest.approx(2.0, rel=0.15)


def made(method: str, seed: int = 0, **facts: Any) -> Record:
    """A record of a plugin of its own."""
    return record(method, seed=seed, plugin=method, **facts)


class Sweep:
    """A sweep of one worker, run by a clock of its own.

    Args:
        cells: records of the cells that are to run.
    """

    def __init__(self, cells: list[Record], *known: Any) -> None:
        self.now, self.time, self.cells = 1000.0, TimeLeft(), cells
        self.time.expect([each.cell for each in cells], *known)  # type: ignore[misc]
        self.course: Course | None = None

    def run(self, phases: tuple[tuple[str, float], ...] = PHASES, steps: int = 50) -> Iterator[float]:
        """The cells one after another; the clock at each second or so of each.

        Args:
            phases: names and seconds. A phase "prune" is a loop of equal steps.
            steps: in it.
        """
        for each in self.cells:
            self.course = self.time.begin(each.cell, self.now)
            for name, seconds in phases:
                self.course.enter(name, self.now)
                began, parts = self.now, steps if name == "prune" else max(round(seconds), 1)
                for done in range(parts):
                    if name == "prune":
                        self.course.step("step", done, steps, self.now)
                    yield self.now
                    self.now = began + (done + 1) * seconds / parts
                if name == "prune":
                    self.course.step("step", steps, steps, self.now)
            self.time.end(self.course, each, self.now)
            self.course = None

    def left(self) -> tuple[float, bool] | None:
        """What there is to tell now, as (seconds, whether more is unknown)."""
        found = self.time.left([] if self.course is None else [self.course], 1, self.now)
        return None if found is None else (found.seconds, found.at_least)


def errors(sweep: Sweep, **options: Any) -> dict[float, float]:
    """By the moment, by how much what was told was wrong, as a share of the truth."""
    told = {now: found for now in sweep.run(**options) if (found := sweep.left()) is not None}
    return {now: seconds / (sweep.now - now) - 1 for now, (seconds, _) in told.items()}


def costing(prune: float, evaluate: float, **facts: Any) -> Record:
    """A record of a cell of ELSA that took so long."""
    ended = made("elsa", **facts)
    cost = ended.cost.model_copy(update={"prune_seconds": prune, "evaluate_seconds": evaluate})
    return ended.model_copy(update={"cost": cost})


class TestSweep:
    def test_cells_alike(self) -> None:
        """The first knows nothing of what follows its loop, the others all."""
        sweep = Sweep([made("elsa", seed) for seed in range(3)])
        found = errors(sweep)
        first = [error for now, error in found.items() if now < 1118]
        later = [error for now, error in found.items() if now >= 1118]
        assert len(first) > 50
        assert max(map(abs, first)) < 0.21  # 17 of 118 seconds
        assert max(map(abs, later)) < 0.001

    def test_what_follows_pruning_is_known_from_another_method(self) -> None:
        """As from the dense model, which is the first of most suites; how long the method takes is not."""
        sweep = Sweep([made("dense"), made("elsa"), made("elsa", 1)])
        cells, sweep.cells = sweep.cells, sweep.cells[:1]
        quick = tuple((name, 0.5 if name == "prune" else seconds) for name, seconds in PHASES)
        assert [found for _ in sweep.run(quick) if (found := sweep.left())]
        sweep.cells = cells[1:]
        told = {now: found for now in sweep.run() if (found := sweep.left()) is not None}
        at_least = [now for now, (_, more) in told.items() if more]
        assert len(at_least) == 2  # until the first step is done
        assert all(abs(s / (sweep.now - now) - 1) < 0.001 for now, (s, more) in told.items() if not more)

    def test_a_method_of_which_nothing_is_known_yet(self) -> None:
        sweep = Sweep([made("wanda"), made("elsa")])
        told = [found for _ in sweep.run() if (found := sweep.left())]
        assert told[0][1]
        assert not told[-1][1]

    @pytest.mark.parametrize("known", ["record", "forecast"])
    def test_cells_known_from_elsewhere(self, known: str) -> None:
        cells = [made("elsa", 1), made("elsa", 2)]
        forecasts = {
            each.cell.id: Forecast(cell=each.cell.id, prune_seconds=100, evaluate_seconds=12) for each in cells
        }
        records = [costing(100, 12), costing(1, 1, error="no idea")]
        sweep = Sweep(cells, records if known == "record" else [], forecasts if known == "forecast" else {})
        found = errors(sweep)
        assert min(found) == 1000.0  # known before the first step
        assert max(abs(error) for now, error in found.items() if now < 1100) < 0.13  # without loading and checks

    def test_cells_that_failed_or_went_on_are_no_measure(self) -> None:
        for each, first in ((made("elsa", error="no idea"), 0), (made("elsa"), 40)):
            time = TimeLeft()
            time.expect([made("elsa", 1).cell])  # type: ignore[list-item]
            course = time.begin(each.cell, 0.0)
            course.enter("prune", 1.0)
            course.step("step", first, 50, 1.0)
            course.step("step", 50, 50, 2.0)
            time.end(course, each, 3.0)
            assert time.left([], 1, 3.0) is None

    def test_workers_side_by_side(self) -> None:
        time = TimeLeft()
        cells = [made("elsa", seed).cell for seed in range(5)]
        time.expect(cells)  # type: ignore[arg-type]
        courses = [time.begin(cell, 0.0) for cell in cells[:2]]
        for course in courses:
            course.enter("prune", 0.0)
            course.step("step", 0, 10, 0.0)
            course.step("step", 5, 10, 50.0)
        found = time.left(courses, 2, 50.0)
        assert found is not None
        assert found.seconds == 50 + 100 + 100  # three more on two workers

    def test_stages(self) -> None:
        """Of the first stage of a kind, the second is still to come."""
        one = made("wanda")
        both = one.model_copy(update={"cell": one.cell.model_copy(update={"stages": 2 * one.cell.stages})})
        phases = (*PHASES[:3], ("load", 1.0), ("prune", 50.0), *PHASES[2:])
        sweep = Sweep([both, both.model_copy(update={"cell": both.cell.model_copy(update={"seed": 1, "id": "x"})})])
        told = {now: found for now in sweep.run(phases) if (found := sweep.left())}
        assert all(more for now, (_, more) in told.items() if now < 1100)
        assert not any(more for now, (_, more) in told.items() if now > 1172)
        later = [abs(seconds / (sweep.now - now) - 1) for now, (seconds, _) in told.items() if now > 1172]
        assert max(later) < 0.001


def test_the_first_cell_tells_its_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own steps, and the other cells as long as it; inner loops do not disturb that."""
    now = 0.0
    monkeypatch.setattr("prunebench.runner.progress.time.monotonic", lambda: now)
    display = LiveDisplay(Console(file=io.StringIO(), width=80))

    def left() -> float | None:
        found = display._sweep.left()
        return None if found is None else found.seconds

    display.expect([record().cell, record(seed=1).cell], [], {})  # type: ignore[list-item]
    display.begin(1, record().cell)  # type: ignore[arg-type]
    display.phase("prune")
    assert left() is None
    display.step("block", 0, 4)
    for now in (1.0, 2.0, 3.0, 10.0):
        display.step("row", int(now), 10)
    display.step("block", 1, 4)
    assert left() == 30.0 + 40.0
    for now in (20.0, 30.0, 40.0):
        display.step("block", int(now / 10), 4)
    display.step("step", 0, 10)  # another loop of the same phase
    now = 45.0
    display.step("step", 5, 10)
    assert left() == 5.0 + 50.0
