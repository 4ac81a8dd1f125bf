"""What a sweep shows while it runs, on a terminal and in lines."""

import io

import pytest
from rich.console import Console

from prunebench.runner.events import Display
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
                accepted.step("block", 0, 8)
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

    def test_how_a_cell_ended_is_broken_between_words_alone(self) -> None:
        stream = _Terminal()
        display = LiveDisplay(Console(file=stream, force_terminal=True, width=40, color_system=None))
        self.show(display)
        shown = [line.strip() for line in stream.getvalue().splitlines()]
        assert "tinystories_eval/document-256 10.00," in shown
        assert "failed after 2.0 s: ContractError:" in shown

    def test_values_are_shown_whole_or_not_at_all(self) -> None:
        display = LiveDisplay(Console(file=io.StringIO(), width=80))
        display.phase("prune")
        display.step("step", 110, 600)
        display.trace(110, {"loss": 1.533, "primal": 0.7204, "dual": 1.081})
        details = display._running.details
        assert details(76) == "prune · step 111/600 · loss 1.533, primal 0.7204, dual 1.081"
        assert details(50) == "prune · step 111/600 · loss 1.533, primal 0.7204"
        assert details(30) == details(9) == "prune · step 111/600"

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
