"""An array job of Slurm, whose tasks run the same command on one results folder and divide its cells by claims."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prunebench.errors import EngineError
from prunebench.files import describe_os_error, write_atomically
from prunebench.records.store import refuse_irregular
from prunebench.runner.engines.interface import Work

FOLDER = "slurm"  # in the results folder
PATIENCE = 60.0  # seconds for sbatch and squeue to answer


@dataclass(frozen=True)
class Slurm:
    """An array job of Slurm; it is submitted, and the same command collects its records later.

    Args:
        workers: tasks of the array, each of which runs cells one after another.
        cpus: cores of a task.
        gpus: GPUs of a task; by default one where cells run on a GPU. A task uses one.
        time: the limit of a task, as Slurm writes it: 04:00:00.
        memory: of a task, as 32G.
        partition, account: where, and at whose cost.
        sbatch: further options of sbatch, as --constraint=a100.
        setup: lines of shell that come before the command, as module load python.
    """

    workers: int = 8
    cpus: int = 1
    gpus: int | None = None
    time: str | None = None
    memory: str | None = None
    partition: str | None = None
    account: str | None = None
    sbatch: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workers < 1 or self.cpus < 1:
            raise ValueError("workers and cpus are numbers from 1")
        for line in (self.time, self.memory, self.partition, self.account, *self.sbatch, *self.setup):
            if line is not None and ("\n" in line or not line):
                raise ValueError(f"{line!r} is no line of a script")

    def start(self, work: Work) -> "Submission":
        """See that there can be a job; see ``prunebench.runner.engines.interface.Engine``.

        Raises:
            EngineError: there is no sbatch, or the job of an earlier command is not over.
        """
        script = self.preview(work)
        if shutil.which("sbatch") is None:
            raise EngineError("there is no sbatch here: run this where jobs are submitted; --dry-run prints the script")
        refuse_irregular(work.output, [FOLDER])
        return Submission(work, script, min(self.workers, len(work.cells)))

    def preview(self, work: Work) -> str:
        """The script.

        Raises:
            EngineError: what is asked for is no job's.
        """
        if work.command is None:
            raise EngineError("an array job runs a command: use prunebench run SUITE --on slurm")
        if work.fresh:
            raise EngineError(
                "--fresh has no place in an array job, each task of which would run all cells again: choose another "
                "--output"
            )
        output = work.output.resolve()
        gpus = int(any(cell.device == "cuda" for cell in work.cells.values())) if self.gpus is None else self.gpus
        asked = {
            "job-name": f"prunebench-{output.name}",
            "array": f"1-{min(self.workers, len(work.cells))}",
            "cpus-per-task": self.cpus,
            "gres": f"gpu:{gpus}" if gpus else None,
            "mem": self.memory,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "output": output / FOLDER / "%A_%a.log",
            "open-mode": "append",
            "signal": "B:TERM@120",
        }
        options = [f"--{name}={value}" for name, value in asked.items() if value is not None]
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in (*options, "--requeue", *self.sbatch)),
            "",
            "# Each task runs the same command: it claims a cell, runs it, takes the next, until each has its record",
            "# or another task has it. Of one that is stopped, killed or requeued nothing is lost: the next goes on.",
            f"cd {shlex.quote(str(Path.cwd()))} || exit",
            *(f"export {name}={shlex.quote(os.environ[name])}" for name in ("PYTHONPATH",) if name in os.environ),
            'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"',
            *self.setup,
            f"exec {shlex.join([*work.command, '--on', 'local', '--workers', '1', '--no-wait'])}",
        ]
        return "\n".join(lines) + "\n"


class Submission:
    """A job that is submitted and not waited for.

    Args:
        work: the sweep.
        script: the job.
        tasks: how many it has.
    """

    def __init__(self, work: Work, script: str, tasks: int) -> None:
        self._work, self._script, self._tasks = work, script, tasks
        self._folder = work.output / FOLDER

    def submit(self, cell: str) -> None:
        """The tasks find for themselves what is to run."""

    def finished(self) -> Iterator[str]:
        """Submit the job, unless the last one is not over. No cell is waited for."""
        if (job := self._running()) is not None:
            self._work.tell(
                f"job {job} is still in Slurm's queue: nothing is submitted; its logs are in {self._folder}"
            )
            return iter(())
        file = self._folder / "job.sh"
        try:
            self._folder.mkdir(exist_ok=True)
            write_atomically(file, self._script.encode())
        except OSError as error:
            raise EngineError(f"cannot write {file}: {describe_os_error(error)}") from None
        job = _answer(["sbatch", "--parsable", str(file)]).partition(";")[0]
        write_atomically(self._folder / "job", job.encode())
        tasks = "a task" if self._tasks == 1 else f"{self._tasks} tasks"
        self._work.tell(f"submitted job {job} of {tasks}: {file}; the same command collects what it has made")
        return iter(())

    def _running(self) -> str | None:
        """The job that was submitted last, if Slurm still has it."""
        try:
            job = (self._folder / "job").read_text(encoding="utf-8")
            return job if _answer(["squeue", "--noheader", f"--jobs={job}"]) else None
        except (OSError, ValueError, EngineError):  # Slurm knows no job of that number any more
            return None

    def stop(self) -> None:
        """Nothing runs here."""


def _answer(words: list[str]) -> str:
    """What a command of Slurm prints.

    Raises:
        EngineError: it failed.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise EngineError(f"{words[0]} refused: {said[-1]}") from None
    except subprocess.TimeoutExpired:
        raise EngineError(f"{words[0]} did not answer within {PATIENCE:g} s") from None
    except OSError as error:
        raise EngineError(f"{words[0]} cannot be run: {error.strerror}") from None
    return done.stdout.strip()
