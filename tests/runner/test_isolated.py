"""What kills a cell's process costs that cell alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from prunebench.cli.app import app
from prunebench.cli.signals import raise_on_signals
from prunebench.errors import CorpusError, MethodError, OutputError, SuiteError
from prunebench.records.record import Record
from prunebench.records.store import read_latest, read_record
from prunebench.runner.isolated import Isolated
from prunebench.runner.run_cell import Limits
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import FAULTY_METHODS

Write = Callable[..., Path]


def faulty_cells(path: Path) -> tuple[Cell, ...]:
    return plan(load_suite(path), plugin_files=[FAULTY_METHODS])


def by_method(records: list[Record]) -> dict[str, Record]:
    return {record.cell.method: record for record in records}


@pytest.fixture(scope="module")
def sweep(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """One sweep over methods that each end the worker in their own way, and one that does not at the end."""
    folder = tmp_path_factory.mktemp("sweep")
    suite = folder / "suite.yaml"
    suite.write_text(
        f"""name: faulty
models: [{world / "model"}]
calibration: {{corpus: {world / "calibration.jsonl"}, nsamples: 8, seqlen: 16}}
sparsities: [0.5]
methods: [exits, crashes, hangs, eats, magnitude]
evaluations: [{{name: perplexity, corpus: {world / "test.jsonl"}, seqlen: 16}}]
"""
    )
    cells = faulty_cells(suite)
    with Isolated() as executor:
        executor.prepare(cells, folder / "out", save_models=False)  # takes long on a busy machine: not limited here
        executor.limits = Limits(seconds=12, bytes=3 << 29)
        records = run_suite(cells, folder / "out", SilentDisplay(), executor=executor)
    assert not [
        child for child in psutil.Process().children() if "prunebench.runner.processes.template" in child.cmdline()
    ]
    assert records == [read_latest(folder / "out", record.cell.id) for record in records]
    return by_method(records)


class TestACellThatKillsItsProcess:
    def test_leaves_the_next_cell_well(self, sweep: dict[str, Record]) -> None:
        assert sweep["magnitude"].status == "ok"
        assert [name for name, record in sweep.items() if record.status == "failed"] == [
            "exits", "crashes", "hangs", "eats"
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("method", "kind", "why", "progress"),
        [
            ("exits", "WorkerEnded", "the process ended with exit status 3", "prune"),
            ("crashes", "WorkerKilled", "the process was killed by SIGSEGV", "prune, step 1 of 3"),
            ("hangs", "TimeLimit", "still running after its timeout of 12 s", "prune, block 1 of 2"),
            ("eats", "MemoryLimit", "GiB resident, more than the memory_limit of", "prune"),
        ],
    )
    def test_is_told_of(self, sweep: dict[str, Record], method: str, kind: str, why: str, progress: str) -> None:
        error = sweep[method].error
        assert error is not None
        assert error.type == kind
        assert why in error.message
        assert error.progress == progress
        assert error.message.endswith(f"({progress})")

    def test_leaves_what_it_said(self, sweep: dict[str, Record]) -> None:
        exits, crashes = sweep["exits"], sweep["crashes"]
        assert exits.notes == {"about to leave": 1}
        assert exits.error is not None
        assert crashes.error is not None
        assert exits.error.stderr == "good[31mbye"  # no control character
        assert crashes.error.signal == "SIGSEGV"
        assert "faulty.py" in (crashes.error.stderr or "")


def test_the_outcome_is_that_of_this_process(write_suite: Write, tmp_path: Path) -> None:
    cells = plan(load_suite(write_suite(methods="methods: [wanda]", sparsities="sparsities: [0.5]")))
    (here,) = run_suite(cells, tmp_path / "here", SilentDisplay())
    with Isolated() as executor:
        (there,) = run_suite(cells, tmp_path / "there", SilentDisplay(), executor=executor)
    varying = {"cost": True, "environment": True, "digest": True, "measured": True, "effort": {"__all__": {"seconds"}}}
    assert there.model_dump(exclude=varying) == here.model_dump(exclude=varying)
    assert there.environment["weights_digest"] == here.environment["weights_digest"]
    assert there.environment["threads"] == here.environment["threads"] == 1
    names = [{path.name for path in (tmp_path / side).iterdir()} for side in ("here", "there")]
    assert names[0] == names[1]


def test_what_does_not_fit_is_refused_as_here(write_suite: Write, tmp_path: Path) -> None:
    long = write_suite(calibration=f"calibration: {{corpus: {tmp_path / 'short.txt'}, nsamples: 2, seqlen: 16}}")
    (tmp_path / "short.txt").write_text("w1 w2\n")
    with Isolated() as executor, pytest.raises(CorpusError, match="short"):
        run_suite(plan(load_suite(long)), tmp_path / "out", SilentDisplay(), executor=executor)


class TestEnding:
    @pytest.fixture
    def command(self, write_suite: Write, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
        suite = write_suite(methods="methods: [magnitude, hangs]", sparsities="sparsities: [0.5]")
        started: list[subprocess.Popen[str]] = []

        def start() -> subprocess.Popen[str]:
            words = [sys.executable, "-c", "from prunebench.cli.app import main; main()", "run", str(suite)]
            process = subprocess.Popen(
                [*words, "-o", str(tmp_path / "out"), "--plugin", str(FAULTY_METHODS)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={"PATH": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
                # Where these tests run in the background, Ctrl-C is ignored, and would be there too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            started.append(process)
            assert process.stderr is not None
            for line in process.stderr:
                if "hangs" in line:
                    break
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize(
        ("sent", "code", "told"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")]
    )
    def test_a_signal_ends_it_within_seconds(
        self, command: Callable[[], subprocess.Popen[str]], tmp_path: Path, sent: signal.Signals, code: int, told: str
    ) -> None:
        process = command()
        workers = psutil.Process(process.pid).children()
        began = time.monotonic()
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == code
        assert time.monotonic() - began < 10
        assert stdout == ""
        assert stderr.strip().startswith(f"{told}: the records so far are in")
        assert workers
        assert not any(worker.is_running() for worker in workers)
        assert [read_record(path).status for path in (tmp_path / "out").glob("*.json")] == ["ok"]
        assert not list((tmp_path / "out" / ".claims").glob("*"))

    def test_a_worker_does_not_outlive_its_parent(
        self, command: Callable[[], subprocess.Popen[str]], tmp_path: Path
    ) -> None:
        process = command()
        workers = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        gone, alive = psutil.wait_procs(workers, timeout=10)
        assert gone
        assert not alive


class TestLimitsInASuite:
    @pytest.mark.parametrize(("told", "seconds"), [("90", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
    def test_timeout(self, write_suite: Write, told: str, seconds: float) -> None:
        assert load_suite(write_suite(timeout=f"timeout: {told}")).timeout == seconds

    def test_memory_limit(self, write_suite: Write) -> None:
        assert load_suite(write_suite(limit="memory_limit: 2GiB")).memory_limit == 2 << 30

    @pytest.mark.parametrize(
        "line", ["timeout: 0", "timeout: soon", "timeout: .inf", "memory_limit: much", "timeout: -3s"]
    )
    def test_nonsense_is_refused(self, write_suite: Write, line: str) -> None:
        with pytest.raises(SuiteError, match=line.partition(":")[0]):
            load_suite(write_suite(limit=line))

    def test_they_change_no_id(self, write_suite: Write) -> None:
        ids = [cell.id for cell in plan(load_suite(write_suite()))]
        assert [cell.id for cell in plan(load_suite(write_suite(limit="timeout: 9s")))] == ids


def test_a_worker_that_cannot_start(monkeypatch: pytest.MonkeyPatch, write_suite: Write, tmp_path: Path) -> None:
    real = subprocess.Popen

    def popen(words: list[str], **options: Any) -> Any:
        return real([sys.executable, "-c", "import sys; sys.exit(7)"], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with Isolated() as executor, pytest.raises(OutputError, match="exit status 7"):
        run_suite(plan(load_suite(write_suite())), tmp_path / "out", SilentDisplay(), executor=executor)


def test_a_plugin_is_asked_about_before_all_is_there_that_cells_need(tmp_path: Path) -> None:
    file = tmp_path / "looks_around.py"
    file.write_text(
        "import sys\n"
        "raise ImportError(' '.join(name for name in ('torch', 'transformers', 'lm_eval') if name in sys.modules))\n"
    )
    with Isolated() as executor:
        for start, there in ((lambda: None, "torch"), (executor.start, "torch transformers lm_eval")):
            start()
            with pytest.raises(MethodError, match=f"ImportError: {there} "):
                executor.read("names", file=str(file))


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_on_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_shard_without_cells_is_no_error(write_suite: Write, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", str(write_suite()), "-o", str(tmp_path / "out"), "--shard", "99/99"])
    assert done.exit_code == 0
    assert "nothing to do" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_that_are_not_forked_find_the_same(write_suite: Write, tmp_path: Path) -> None:
    cells = plan(load_suite(write_suite(methods="methods: [wanda]", sparsities="sparsities: [0.5]")))
    found = []
    for way in ("fork", "spawn"):
        with Isolated(way=way) as executor:
            (record,) = run_suite(cells, tmp_path / way, SilentDisplay(), executor=executor)
        assert record.error is None
        found.append(record)
    forked, spawned = found
    assert spawned.measured == "reloaded"
    assert spawned.environment["weights_digest"] == forked.environment["weights_digest"]
    for part in ("cell", "method", "sparsity", "perplexity", "notes", "trace", "arrays"):
        assert getattr(spawned, part) == getattr(forked, part), part
