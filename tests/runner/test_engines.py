"""The seam between a sweep and who runs its cells, and the workers of this machine."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rich.console import Console

from prunebench.errors import EngineError, OutputError, SuiteError, UsageError
from prunebench.records.record import Record
from prunebench.records.store import read_latest
from prunebench.runner import rounds
from prunebench.runner.claims import Claims
from prunebench.runner.engines.chosen import chosen_engine
from prunebench.runner.engines.claimed import ClaimedCells
from prunebench.runner.engines.interface import Work
from prunebench.runner.engines.local import Local, shares
from prunebench.runner.engines.needs import AllNeeds, Needs
from prunebench.runner.engines.program import Relay, WorkerLost, WorkerProgram
from prunebench.runner.in_process import InProcess
from prunebench.runner.isolated import Isolated
from prunebench.runner.progress import LiveDisplay, PlainDisplay
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.entries import EngineEntry
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.faults.campaign import differing, outcome
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import FAULTY_METHODS
from tests.helpers.records import record

Write = Callable[..., Path]


@pytest.fixture
def cells(write_suite: Write) -> tuple[Cell, ...]:
    return plan(load_suite(write_suite()))


def same(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same records, but for costs, environment and digests."""
    here, there = outcome(folder), outcome(other)
    return here.keys() == there.keys() and not any(differing(here[cell], there[cell]) for cell in here)


class TestACellAsJson:
    def test_it_comes_back(self, cells: tuple[Cell, ...]) -> None:
        for cell in cells:
            back = Cell.from_json(cell.to_json())
            assert (back, back.id, back.key) == (cell, cell.id, cell.key)
            assert Cell.from_json(json.dumps(cell.model_dump(mode="json"))) == cell  # with what is computed, too

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": 1}'])
    def test_nonsense_is_refused_in_a_line(self, text: str) -> None:
        with pytest.raises(SuiteError, match="this is no cell in JSON") as caught:
            Cell.from_json(text)
        assert "\n" not in str(caught.value)


@dataclass
class Inline:
    """An engine as small as can be, which may be told to misbehave."""

    leaves: int = 0
    fails_to: str = ""
    cells: list[str] = field(default_factory=list)
    stopped: int = 0

    def start(self, work: Work) -> "Inline":
        self._worker, self._work = ClaimedCells(work), work
        self._may("start")
        return self

    def _may(self, what: str) -> None:
        if self.fails_to == what:
            raise LookupError(f"no {what}\ntoday")

    def submit(self, cell: str) -> None:
        self._may("submit")
        self.cells.append(cell)

    def finished(self) -> Iterator[str]:
        self._may("finish")
        for cell in reversed(self.cells[self.leaves :]):
            if self.fails_to == "run":
                pass
            elif self.fails_to == "bring to an end":
                self._work.fail(cell, "its node is gone")
            else:
                self._worker.run(cell)
            yield cell
        self.cells = []

    def stop(self) -> None:
        self.stopped += 1


class TestTheSeam:
    def test_another_engine_makes_the_same_records(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        engine, display = Inline(), SilentDisplay()
        ours = run_suite(cells, tmp_path / "ours", SilentDisplay())
        theirs = run_suite(cells, tmp_path / "theirs", display, engine=engine)
        assert same(tmp_path / "ours", tmp_path / "theirs")
        assert [each.cell.id for each in theirs] == [each.cell.id for each in ours]
        assert display.begun == [cell.id for cell in reversed(cells)]
        assert engine.stopped == 1
        assert not list((tmp_path / "theirs").glob(".*"))
        run_suite(cells, tmp_path / "theirs", display, engine=(unused := Inline(fails_to="start")))
        assert unused.stopped == 0

    def test_what_it_leaves_is_for_later(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        records = run_suite(cells, tmp_path, SilentDisplay(), engine=Inline(leaves=2))
        assert [each.cell.id for each in records] == [cell.id for cell in cells[2:]]
        assert len(run_suite(cells, tmp_path, SilentDisplay(), engine=Inline())) == len(cells)

    @pytest.mark.parametrize("what", ["start", "submit", "finish"])
    def test_one_that_raises_is_blamed_in_a_line(self, cells: tuple[Cell, ...], tmp_path: Path, what: str) -> None:
        with pytest.raises(EngineError, match=rf"the engine 'Inline' failed: LookupError: no {what} today") as caught:
            run_suite(cells, tmp_path, SilentDisplay(), engine=Inline(fails_to=what))
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2

    def test_one_that_only_says_it_is_done_is_blamed(
        self, cells: tuple[Cell, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rounds, "PATIENCE", 1)
        with pytest.raises(EngineError, match=r"the engine 'Inline' gives .* back without its record"):
            run_suite(cells, tmp_path, SilentDisplay(), engine=Inline(fails_to="run"), lease=0.1)

    def test_a_cell_that_it_gives_up_failed(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        (lost,) = run_suite(cells[:1], tmp_path, SilentDisplay(), engine=Inline(fails_to="bring to an end"))
        assert lost.error is not None
        assert (lost.error.type, lost.error.message) == ("WorkerLost", "its node is gone")
        assert read_latest(tmp_path, cells[0].id) == lost
        assert run_suite(cells[:1], tmp_path, SilentDisplay())[0].status == "ok"

    def test_who_does_not_wait_leaves_what_others_have(
        self, cells: tuple[Cell, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = Claims(tmp_path)
        with other.held(cells[0].id) as claim:
            assert claim is not None
            records = run_suite(cells, tmp_path, SilentDisplay(), wait=False)
        assert [each.cell.id for each in records] == [cell.id for cell in cells[1:]]
        assert "1 cell is left to other runners" in caplog.messages


class TestTheChoice:
    def test_this_machine_by_default(self) -> None:
        assert chosen_engine(None) == Local()
        assert chosen_engine(None, workers=3) == Local(3)

    @pytest.mark.parametrize(
        ("entry", "name", "workers", "message"),
        [
            (None, "rai", None, "unknown engine 'rai'"),
            (EngineEntry(name="rai"), None, None, "unknown engine 'rai'"),
            (EngineEntry(name="local", options={"worker": 2}), None, None, "has no option 'worker': did you mean"),
            (EngineEntry(name="local", options={"workers": "2"}), None, None, "it must be of type"),
            (EngineEntry(name="local", options={"workers": 0}), "local", None, "0 workers: give a number from 1"),
        ],
    )
    def test_what_cannot_be_is_refused(self, entry: Any, name: Any, workers: Any, message: str) -> None:
        with pytest.raises(EngineError, match=message):
            chosen_engine(entry, name, workers)

    def test_another_name_has_no_options_of_the_suite(self) -> None:
        entry = EngineEntry(name="slurm", options={"partition": "long"})
        assert chosen_engine(entry, "local", 2) == Local(2)
        assert chosen_engine(entry, "slurm", 2).workers == 2  # type: ignore[attr-defined]

    def test_it_changes_no_id(self, write_suite: Write, cells: tuple[Cell, ...]) -> None:
        told = load_suite(write_suite(engine="engine: {name: local, options: {workers: 2}}"))
        assert [cell.id for cell in plan(told)] == [cell.id for cell in cells]

    def test_a_plugin_file_brings_one(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(
            "from dataclasses import dataclass\n\n@dataclass\nclass MyCluster:\n    nodes: int = 1\n\n"
            "    def start(self, work):\n        raise OSError('no such host')\n"
        )
        assert chosen_engine(None, "my-cluster", files=[file]).nodes == 1  # type: ignore[attr-defined]


def work_of(cells: tuple[Cell, ...], output: Path, **facts: Any) -> Work:
    before = {cell.id: (None, None) for cell in cells}
    given = {"executor": InProcess(), "claims": Claims(output)} | facts
    return Work(cells={cell.id: cell for cell in cells}, output=output, before=before, **given)


class TestShares:
    def test_cores_are_divided(self, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
        found = shares(work_of(cells, tmp_path), 3)
        assert [(share.threads, share.variables) for share in found] == [(2, {"OMP_NUM_THREADS": "2"})] * 3
        monkeypatch.setenv("OMP_NUM_THREADS", "8")
        assert [(share.threads, share.variables) for share in shares(work_of(cells, tmp_path), 3)] == [(8, {})] * 3

    @pytest.mark.parametrize(("visible", "names"), [(None, ["0", "1"]), ("2,5,6", ["2", "5"])])
    def test_each_has_its_gpu(
        self, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: list[str]
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        on_gpus = tuple(cell.model_copy(update={"device": "cuda"}) for cell in cells)
        found = shares(work_of(on_gpus, tmp_path), 2)
        assert [share.variables["CUDA_VISIBLE_DEVICES"] for share in found] == names
        assert [share.gpu for share in found] == [0, 1]

    def test_more_workers_than_gpus(self, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        on_gpus = [cell.model_copy(update={"device": "cuda"}) for cell in cells]
        with pytest.raises(EngineError, match="3 workers, but 2 GPUs are here: ask for at most one worker a GPU"):
            run_suite(on_gpus, tmp_path, SilentDisplay(), engine=Local(3))

    def test_in_process_there_is_one_whatever_there_is(
        self, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        on_gpus = tuple(cell.model_copy(update={"device": "cuda"}) for cell in cells)
        with Isolated() as isolated:
            work = work_of(on_gpus, tmp_path)
            assert [Local()._count(replace(work, executor=each)) for each in (work.executor, isolated)] == [1, 2]
            assert Local()._count(replace(work_of(cells, tmp_path), executor=isolated)) == 1

    def test_more_workers_than_cores_is_told(self, cells: Any, tmp_path: Path, caplog: Any) -> None:
        with pytest.raises(EngineError, match="--in-process runs one cell at a time"):
            run_suite(cells, tmp_path, SilentDisplay(), engine=Local(1000))
        assert "1000 workers on " in caplog.text


class TestTwoWorkers:
    def test_they_make_the_records_of_one(self, write_suite: Write, tmp_path: Path) -> None:
        suite = write_suite(methods="methods: [magnitude, wanda, exits]", sparsities="sparsities: [0.5]")
        cells = plan(load_suite(suite), plugin_files=[FAULTY_METHODS])
        display = SilentDisplay()
        with Isolated() as executor:
            one = run_suite(cells, tmp_path / "one", SilentDisplay(), executor=executor)
            two = run_suite(cells, tmp_path / "two", display, executor=executor, engine=Local(2))
        assert same(tmp_path / "one", tmp_path / "two")
        assert sorted(display.begun) == sorted(cell.id for cell in cells)
        assert [each.status for each in two] == [each.status for each in one] == ["ok", "ok", "failed"]
        assert [each.environment["threads"] for each in two] == [1, 1, 1]
        assert {each.measured for each in two} == {"reloaded"}
        assert not list((tmp_path / "two").glob(".*"))

    @pytest.mark.slow
    def test_what_stops_one_stops_all(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        """As a full disk does; the error is that of the worker, and no process is left."""

        class Shows(SilentDisplay):
            def begin(self, number: int, cell: Cell) -> None:
                raise OutputError("the disk is full")

        with Isolated() as executor, pytest.raises(OutputError, match="the disk is full"):
            run_suite(cells, tmp_path / "out", Shows(), executor=executor, engine=Local(2))
        assert not [child for child in psutil.Process().children() if "template" in " ".join(child.cmdline())]
        assert not list((tmp_path / "out" / ".claims").iterdir())

    def test_a_signal_that_does_not_wake_the_main_thread_ends_its_wait(
        self, cells: tuple[Cell, ...], tmp_path: Path
    ) -> None:
        """As one that comes between its last look for signals and the beginning of its wait."""

        class Hangs(InProcess):
            over = threading.Event()

            def side_by_side(self, shares: Any) -> "list[Hangs]":
                return [self, self]

            def run(self, *arguments: Any, **options: Any) -> Any:
                if arguments[0] == cells[0]:
                    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
                self.over.wait(30)
                raise KeyboardInterrupt

            def stop(self) -> None:
                self.over.set()

            start = expect = prepare = end = lambda self, *arguments, **options: None

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        began = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                run_suite(cells[:2], tmp_path / "out", SilentDisplay(), executor=Hangs(), engine=Local(2))
        finally:
            signal.signal(signal.SIGINT, before)
        assert time.monotonic() - began < 15  # seconds; half of what the cells would take

    @pytest.mark.slow
    def test_ctrl_c_ends_both_within_seconds(self, write_suite: Write, tmp_path: Path) -> None:
        suite = write_suite(methods="methods: [hangs]")
        words = [sys.executable, "-m", "prunebench", "run", str(suite), "-o", str(tmp_path / "out"), "--workers", "2"]
        process = subprocess.Popen(
            [*words, "--plugin", str(FAULTY_METHODS)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PRUNEBENCH_IN_PROCESS": "", "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stderr is not None
        heard: list[str] = []
        while sum(line.rstrip().endswith("…") for line in heard) < 2:
            heard.append(next(process.stderr))
            assert len(heard) < 10, heard
        processes = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - began < 40  # seconds on an idle machine, of which five are for what hangs
        assert process.returncode == 130
        assert said.startswith("interrupted: the records so far are in")
        assert len(processes) >= 2  # at least those of the first worker; the other may just be starting its own
        assert not psutil.wait_procs(processes, timeout=5)[1]


class TestAWorkerProgram:
    @pytest.mark.slow
    def test_it_runs_cells_and_says_how_they_fare(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        run_suite(cells[:2], tmp_path / "here", SilentDisplay())
        display = SilentDisplay()
        work = work_of(cells[:2], tmp_path / "there", begin=lambda cell: display)
        relay, program = Relay(work), WorkerProgram(work.to_json())
        heard = []
        try:
            for cell in work.cells:
                for event in program.run(cell):
                    heard.append(event[0])
                    relay.hear(event)
            os.kill(program.pid, signal.SIGKILL)
            with pytest.raises(WorkerLost, match="killed by signal 9"):
                list(program.run(cells[0].id))
        finally:
            program.stop()
        assert heard.count("begin") == 2
        assert "phase" in heard
        assert same(tmp_path / "here", tmp_path / "there")

    @pytest.mark.slow
    def test_what_it_refuses_is_refused_here(self, write_suite: Write, tmp_path: Path) -> None:
        (cell,) = plan(load_suite(write_suite(methods="methods: [dense]")))
        short = cell.model_copy(update={"calibration": cell.calibration.model_copy(update={"seqlen": 100_000})})
        program = WorkerProgram(work_of((short,), tmp_path).to_json())
        with pytest.raises(UsageError, match="100000"):
            list(program.run(short.id))

    def test_a_command_that_is_not_there(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        with pytest.raises(EngineError, match="no worker can be started by /none: No such file"):
            WorkerProgram(work_of(cells, tmp_path).to_json(), ["/none"])


class TestNeeds:
    def test_from_the_headers(self, cells: tuple[Cell, ...], tmp_path: Path, world: Path) -> None:
        weights = sum(
            parameter.numel() * 4 for parameter in torch.nn.ParameterList(_parameters(world / "model")).parameters()
        )
        needs = AllNeeds(work_of(cells, tmp_path))
        by_method = {cell.method: needs.of(cell) for cell in cells}
        assert by_method["dense"] == Needs(0, 0, round(1.5 * weights), None)
        assert by_method["wanda"] == Needs(0, 0, round(2.5 * weights), None)
        on_gpu = needs.of(cells[0].model_copy(update={"device": "cuda"}))
        assert on_gpu == Needs(1, round(1.5 * weights), weights, None)

    def test_from_the_forecast(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        told = {"cell": cells[0].id, "prune_seconds": 2.0, "evaluate_seconds": 3.0, "peak_bytes": 12345}
        (tmp_path / "forecasts.jsonl").write_text(json.dumps(told) + "\n")
        assert AllNeeds(work_of(cells, tmp_path)).of(cells[0]) == Needs(0, 0, 12345, 5.0)


def _parameters(folder: Path) -> list[torch.nn.Parameter]:
    from safetensors.torch import load_file

    tensors = [load_file(path) for path in folder.glob("*.safetensors")]
    return [torch.nn.Parameter(tensor) for found in tensors for tensor in found.values()]


class TestDisplaysOfTwo:
    def show(self, display: Any) -> None:
        one, two = (record(method=method) for method in ("wanda", "sparsegpt"))
        with display:
            display.start(2, 0)
            display.begin(1, one.cell)
            other = display.another()
            other.begin(2, two.cell)
            display.phase("prune")
            other.phase("check")
            self.during(display)
            other.end(two, 1.0)
            display.end(one, 2.0)

    def during(self, display: Any) -> None:
        if isinstance(display, LiveDisplay):
            display._live.refresh()

    def test_lines(self) -> None:
        stream = io.StringIO()
        self.show(PlainDisplay(stream))
        found = [line.partition(", ")[0] for line in stream.getvalue().splitlines()]
        assert found == [
            "2 cells: 2 to run",
            "[1/2] stories wanda 0.5 s0 …",
            "[2/2] stories sparsegpt 0.5 s0 …",
            "[2/2] stories sparsegpt 0.5 s0: ok",
            "[1/2] stories wanda 0.5 s0: ok",
        ]

    def test_a_terminal(self) -> None:
        stream = io.StringIO()
        self.show(LiveDisplay(Console(file=stream, force_terminal=True, width=100, color_system=None)))
        shown = stream.getvalue()
        for part in ("[1/2] stories · wanda", "[2/2] stories · sparsegpt", "    prune", "    check", "0/2 cells"):
            assert part in shown


def test_a_record_that_another_runner_wrote_is_not_shown_as_ours(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    class Elsewhere(Inline):
        """Its cells are run by somebody who was faster."""

        def finished(self) -> Iterator[str]:
            run_suite(cells, tmp_path, SilentDisplay())
            return super().finished()

    display = SilentDisplay()
    found: list[Record] = run_suite(cells, tmp_path, display, engine=Elsewhere())
    assert len(found) == len(cells)
    assert display.begun == []
