"""What a sweep shows while it runs, on a terminal and in lines."""

import io

import pytest
from rich.console import Console

from prunebench.runner.events import Display
from prunebench.runner.pace import Pace
from prunebench.runner.progress import LiveDisplay, PlainDisplay, ShownDisplay, clock_text, display_for
from tests.helpers.records import record


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestDisplay:
    def show(self, display: ShownDisplay) -> None:
        accepted: Display = display  # both displays are what the runner asks for
        with display:
            accepted.start(3, 1)
            for number, ended in ((2, record(method="spa[red]rse\x1b[2Jgpt")), (3, record(error="no [bold]ideas"))):
                accepted.begin(number, ended.cell)  # type: ignore[arg-type]
                accepted.phase("prune")
                accepted.step("block", 2, 8)
                accepted.step("batch", 0, 4)
                accepted.trace(5, {"loss": 2.345678})
                accepted.note("damping raised", {"layer": "q_proj"})
                self.during(display)
                accepted.end(ended, 2.0)

    def during(self, display: ShownDisplay) -> None:
        if isinstance(display, LiveDisplay):
            display._live.refresh()

    def test_lines(self) -> None:
        stream = io.StringIO()
        self.show(PlainDisplay(stream))
        assert stream.getvalue().splitlines() == [
            "3 cells: 2 to run, 1 already there",
            "[2/3] stories spa[red]rse[2Jgpt 0.5 s0 …",
            "[2/3] stories spa[red]rse[2Jgpt 0.5 s0: ok, tinystories_eval/document-256 10.00, prune 2.5 s, measure 30 s",  # noqa: E501
            "[3/3] stories wanda 0.5 s0 …",
            "[3/3] stories wanda 0.5 s0: failed after 2.0 s: ContractError: no [bold]ideas",
        ]

    @pytest.mark.parametrize("width", [120, 40, 10])
    def test_a_terminal(self, width: int) -> None:
        stream = _Terminal()
        display = LiveDisplay(Console(file=stream, force_terminal=True, width=width, color_system=None))
        self.show(display)
        shown = stream.getvalue()
        assert "\x1b[2J" not in shown
        if width == 120:
            assert "[2/3] stories · spa[red]rse[2Jgpt · 0.5 · seed 0" in shown
            assert "prune · block 3/8 · batch 1/4 · loss 2.346" in shown
            assert "2/3 cells" in shown
            assert "left" in shown
            assert "failed after 2.0 s: ContractError: no [bold]ideas" in shown

    def test_a_loop_that_is_over_is_not_shown(self) -> None:
        display = LiveDisplay(Console(file=io.StringIO(), width=80))
        display.begin(1, record().cell)  # type: ignore[arg-type]
        display.phase("prune")
        display.step("block", 0, 2)
        display.step("batch", 0, 1)
        display.step("batch", 1, 1)
        assert list(display._running.steps.values()) == ["block 1/2"]
        display.step("token", 7, None)
        display.step("block", 1, 2)
        assert list(display._running.steps.values()) == ["block 2/2"]

    def test_a_terminal_is_recognised(self) -> None:
        assert isinstance(display_for(_Terminal()), LiveDisplay)
        assert isinstance(display_for(io.StringIO()), PlainDisplay)

    def test_clock(self) -> None:
        assert [clock_text(value) for value in (0, 65.4, 3725)] == ["0:00", "1:05", "1:02:05"]


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


def test_the_first_cell_tells_its_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own steps, and the other cells as long as it; inner loops do not disturb that."""
    now = 0.0
    monkeypatch.setattr("prunebench.runner.progress.time.monotonic", lambda: now)
    display = LiveDisplay(Console(file=io.StringIO(), width=80))
    display._sweep.cells = 2
    display.begin(1, record().cell)  # type: ignore[arg-type]
    display.phase("prune")
    display.step("block", 0, 4)
    for now in (1.0, 2.0, 3.0, 10.0):
        display.step("row", int(now), 10)
    display.step("block", 1, 4)
    assert display._sweep.seconds_left() == 30.0 + 40.0
    for now in (20.0, 30.0, 40.0):
        display.step("block", int(now / 10), 4)
    display.step("step", 0, 10)  # another loop of the same phase
    now = 45.0
    display.step("step", 5, 10)
    assert display._sweep.seconds_left() == 5.0 + 50.0
