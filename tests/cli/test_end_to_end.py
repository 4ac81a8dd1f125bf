"""A sweep as users run it: the command in a process of its own, and the cells in a worker process."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from prunebench.records.store import read_arrays, read_record

COMMAND = (sys.executable, "-m", "prunebench")
METHODS = ("dense", "magnitude", "wanda")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, what it printed, and the worker processes that it was seen to have."""

    code: int
    stdout: str
    stderr: str
    workers: frozenset[int]


def workers_of(process: int) -> set[int]:
    """Process ids of the workers of a running command."""
    children = psutil.Process(process).children()
    return {child.pid for child in children if "prunebench.runner.processes.template" in child.cmdline()}


def run(*words: object) -> Outcome:
    """Run ``prunebench`` without the variable that lets other tests do without a worker."""
    environment = {name: value for name, value in os.environ.items() if name != "PRUNEBENCH_IN_PROCESS"}
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines, workers = [], set[int]()
        for line in process.stderr:
            lines.append(line)
            if ": ok, " in line:  # a cell has just ended, and another is about to begin
                with suppress(psutil.NoSuchProcess):  # or the last has, and all is over
                    workers |= workers_of(process.pid)
        stdout = process.stdout.read()
    return Outcome(process.returncode, stdout, "".join(lines), frozenset(workers))


@pytest.fixture(scope="module")
def folder(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite of three cells."""
    folder = tmp_path_factory.mktemp("end_to_end")
    (folder / "suite.yaml").write_text(
        f"name: three\nmodels: [{world / 'model'}]\n"
        f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}\n"
        f"sparsities: [0.5]\nmethods: [{', '.join(METHODS)}]\n"
        f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]\n"
    )
    return folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Outcome:
    """The first run of the suite."""
    return run("run", folder / "suite.yaml", "--output", folder / "out")


class TestFirstRun:
    def test_ends_well_after_work_in_a_worker(self, first: Outcome) -> None:
        assert first.code == 0, first.stderr
        assert len(first.workers) == 1
        assert not any(psutil.pid_exists(worker) for worker in first.workers)

    def test_prints_tables_alone_on_standard_output(self, first: Outcome) -> None:
        assert first.stdout.startswith("Perplexity of model on test/stream-16; dense ")
        places = [first.stdout.index(f"\n{name} ") for name in METHODS[1:]]
        assert places == sorted(places)

    def test_tells_its_progress_on_standard_error(self, first: Outcome, folder: Path) -> None:
        assert first.stderr.splitlines()[1] == "3 cells: 3 to run"
        for number, cell in enumerate(("dense 0", "magnitude 0.5", "wanda 0.5"), start=1):
            assert f"[{number}/3] model {cell} s0: ok, test/stream-16 " in first.stderr
        assert f"report: {folder / 'out' / 'report.html'}" in first.stderr
        assert "Traceback" not in first.stderr

    def test_leaves_a_record_and_arrays_of_each_cell_and_a_page(self, first: Outcome, folder: Path) -> None:
        records = {record.cell.method: record for record in map(read_record, (folder / "out").glob("*.json"))}
        assert set(records) == set(METHODS)
        for name, record in records.items():
            assert record.status == "ok"
            assert record.sparsity is not None
            assert record.sparsity.reached == (0.0 if name == "dense" else 0.5)
            (perplexity,) = record.perplexity.values()
            assert f"{perplexity.value:.4g}" in first.stdout
            assert read_arrays(folder / "out" / f"{record.cell.id}.json")
        assert (folder / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_a_second_run_runs_nothing_and_prints_the_same(first: Outcome, folder: Path) -> None:
    before = {path: path.read_bytes() for path in (folder / "out").iterdir() if path.suffix != ".html"}
    second = run("run", folder / "suite.yaml", "--output", folder / "out")
    assert (second.code, second.workers) == (0, frozenset())
    assert second.stderr.splitlines()[1] == "3 cells: 0 to run, 3 already there"
    assert second.stdout == first.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_a_wrong_word_ends_in_one_line_and_runs_nothing(folder: Path) -> None:
    outcome = run("run", folder / "suite.yaml", "--output", folder / "wrong", "--only", "wand")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.count("\n") == 1
    assert "the suite has no such method: did you mean 'wanda'?" in outcome.stderr
    assert not (folder / "wrong").exists()
