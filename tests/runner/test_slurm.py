"""Array jobs: the script, its submission, and a stand-in for Slurm that runs one and kills tasks."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunebench.errors import EngineError
from prunebench.runner.claims import Claims
from prunebench.runner.engines.interface import Work
from prunebench.runner.engines.slurm import Slurm
from prunebench.runner.in_process import InProcess
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.faults.campaign import differing, outcome
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.observers import SilentDisplay

Write = Callable[..., Path]
COMMAND = ("python", "-m", "prunebench", "run", "a suite.yaml", "--output", "out")

# Loops over the tasks of an array, one after another. A task whose number is in $KILLED is killed in its first cell.
SBATCH = """#!{python}
import os, re, signal, subprocess, sys
script = open(sys.argv[-1]).read()
first, last = map(int, re.search(r"--array=(\\d+)-(\\d+)", script).groups())
if os.fork():
    print("4711;cluster")
    sys.exit(0)
for stream in (0, 1, 2):
    os.dup2(os.open(os.devnull, os.O_RDWR), stream)
here = os.path.dirname(sys.argv[0])
for task in range(first, last + 1):
    env = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_CPUS_PER_TASK": "1"}}
    job = subprocess.Popen(["bash", sys.argv[-1]], stderr=subprocess.PIPE, text=True, env=env)
    with open(f"{{here}}/said", "a") as said:
        for line in job.stderr:
            said.write(f"{{task}}: {{line}}")
            if line.rstrip().endswith("…") and str(task) in os.environ.get("KILLED", "").split():
                job.send_signal(signal.SIGKILL)
    job.wait()
open(f"{{here}}/over", "w").close()
"""


@pytest.fixture
def cells(write_suite: Write) -> tuple[Cell, ...]:
    return plan(load_suite(write_suite()))


def work_of(cells: tuple[Cell, ...], output: Path, **facts: Any) -> Work:
    given = {"command": COMMAND, "executor": InProcess(), "claims": Claims(output)} | facts
    return Work(cells={cell.id: cell for cell in cells}, output=output, before={}, **given)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A command of Slurm."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


class TestTheScript:
    def test_it_can_be_read(self, cells: tuple[Cell, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
        monkeypatch.chdir(tmp_path)
        engine = Slurm(workers=3, cpus=4, time="04:00:00", memory="32G", sbatch=("--qos=low",), setup=("module x",))
        lines = engine.preview(work_of(cells, tmp_path / "out")).splitlines()
        assert lines[0] == "#!/bin/bash"
        told = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
        assert told == [
            "--job-name=prunebench-out",
            "--array=1-3",
            "--cpus-per-task=4",
            "--mem=32G",
            "--time=04:00:00",
            f"--output={tmp_path}/out/slurm/%A_%a.log",
            "--open-mode=append",
            "--signal=B:TERM@120",
            "--requeue",
            "--qos=low",
        ]
        assert lines[-4:] == [
            f"cd {tmp_path} || exit",
            'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"',
            "module x",
            "exec python -m prunebench run 'a suite.yaml' --output out --on local --workers 1 --no-wait",
        ]
        assert subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, check=False).returncode == 0

    def test_a_gpu_is_asked_for_where_cells_need_one(self, cells: tuple[Cell, ...], tmp_path: Path) -> None:
        on_gpus = tuple(cell.model_copy(update={"device": "cuda"}) for cell in cells)
        assert "gres" not in Slurm().preview(work_of(cells, tmp_path))
        assert "#SBATCH --gres=gpu:1\n" in Slurm().preview(work_of(on_gpus, tmp_path))
        assert "#SBATCH --array=1-5\n" in Slurm().preview(work_of(cells, tmp_path))  # no more tasks than cells

    @pytest.mark.parametrize("options", [{"workers": 0}, {"cpus": 0}, {"partition": "a\nb"}, {"setup": ("",)}])
    def test_nonsense_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"workers and cpus|no line of a script"):
            Slurm(**options)

    @pytest.mark.parametrize(
        ("facts", "message"), [({"fresh": True}, "--fresh has no place"), ({"command": None}, "use prunebench run")]
    )
    def test_what_no_job_can_do_is_refused(self, cells: Any, tmp_path: Path, facts: Any, message: str) -> None:
        with pytest.raises(EngineError, match=message):
            Slurm().preview(work_of(cells, tmp_path, **facts))


class TestSubmission:
    def test_once_while_it_is_in_the_queue(
        self, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        stand_in(tmp_path / "bin", monkeypatch, "sbatch", "#!/bin/sh\necho 17\n")
        options: dict[str, Any] = {"engine": Slurm(), "command": COMMAND}
        assert run_suite(cells, tmp_path / "out", SilentDisplay(), **options) == []
        assert "submitted job 17 of 5 tasks" in caplog.text
        assert (tmp_path / "out" / "slurm" / "job.sh").read_text().startswith("#!/bin/bash\n")
        stand_in(tmp_path / "bin", monkeypatch, "squeue", '#!/bin/sh\necho "$*" 17 PENDING\n')
        assert run_suite(cells, tmp_path / "out", SilentDisplay(), **options) == []
        assert "job 17 is still in Slurm's queue: nothing is submitted" in caplog.text
        stand_in(tmp_path / "bin", monkeypatch, "squeue", "#!/bin/sh\nexit 1\n")
        stand_in(tmp_path / "bin", monkeypatch, "sbatch", "#!/bin/sh\necho 18\n")
        run_suite(cells, tmp_path / "out", SilentDisplay(), **options)
        assert "submitted job 18" in caplog.text

    def test_a_refusal_of_sbatch_is_told(self, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_in(tmp_path / "bin", monkeypatch, "sbatch", "#!/bin/sh\necho invalid partition >&2\nexit 1\n")
        with pytest.raises(EngineError, match="sbatch refused: invalid partition"):
            run_suite(cells, tmp_path / "out", SilentDisplay(), engine=Slurm(), command=COMMAND)

    def test_without_slurm(self, write_suite: Write, tmp_path: Path) -> None:
        if shutil.which("sbatch"):
            pytest.skip("Slurm is here")
        result = prunebench("run", write_suite(), "-o", tmp_path / "out", "--on", "slurm")
        assert result.exit_code == 2
        assert one_line(result).startswith("error: there is no sbatch here")
        preview = prunebench("run", write_suite(), "-o", tmp_path / "new", "--on", "slurm", "--dry-run")
        assert preview.exit_code == 0
        assert preview.stdout.startswith("#!/bin/bash\n")
        assert preview.stdout.endswith(" --on local --workers 1 --no-wait\n")
        assert not (tmp_path / "new").exists()
        prunebench("run", write_suite(), "-o", tmp_path / "out")
        done = prunebench("run", write_suite(), "-o", tmp_path / "out", "--on", "slurm", "--dry-run")
        assert one_line(done) == "error: every cell has its record: there is no job to submit"


def await_job(folder: Path) -> None:
    """Wait for the stand-in's job."""
    until = time.monotonic() + 300
    while not (folder / "over").exists():
        assert time.monotonic() < until
        time.sleep(0.2)
    (folder / "over").unlink()


@pytest.mark.slow
def test_one_job_runs_trials_and_then_the_cells_that_follow_from_them(
    write_suite: Write, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{{corpus: {world / 'calibration.jsonl'}, seqlen: 16}}"
    tune = f"tune: {{grid: {{percdamp: [0.01, 0.1]}}, text: {text}}}"
    suite = write_suite(methods=f"methods: [{{name: sparsegpt, {tune}}}]", sparsities="sparsities: [0.5]")
    stand_in(tmp_path / "bin", monkeypatch, "sbatch", SBATCH.format(python=sys.executable))
    words = ("run", suite, "-o", tmp_path / "out", "--on", "slurm", "--workers", "2")
    result = prunebench(*words)
    assert result.exit_code == 0, result.output
    assert "2 of 2 trials have no record yet; the suite's own cells follow from all" in result.stderr
    await_job(tmp_path / "bin")
    result = prunebench(*words)
    assert result.exit_code == 0, result.output
    assert result.stderr.count(" 0 to run") == 2
    assert "the best of 2 trials at 0.5" in result.stderr


@pytest.mark.slow
def test_killed_tasks_lose_nothing(write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both tasks of the first job are killed in a cell; the second job makes the rest; then all is collected."""
    suite, out, bin_ = write_suite(), tmp_path / "out", tmp_path / "bin"
    run_suite(plan(load_suite(suite)), tmp_path / "whole", SilentDisplay())
    stand_in(bin_, monkeypatch, "sbatch", SBATCH.format(python=sys.executable))
    for killed in ("1 2", ""):
        monkeypatch.setenv("KILLED", killed)
        result = prunebench("run", suite, "-o", out, "--on", "slurm", "--workers", "2")
        assert result.exit_code == 0, result.output
        assert "cells have no record yet; the same command goes on" in result.stderr
        await_job(bin_)
    said = (bin_ / "said").read_text()
    assert said.count("…") > len(outcome(tmp_path / "whole"))  # some cell began twice
    result = prunebench("run", suite, "-o", out, "--on", "slurm", "--workers", "2")
    assert "\n5 cells: 0 to run, 5 already there\n" in result.stderr
    whole, found = outcome(tmp_path / "whole"), outcome(out)
    assert whole.keys() == found.keys()
    assert not [part for cell in whole for part in differing(whole[cell], found[cell])]
