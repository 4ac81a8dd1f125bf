"""Command line arguments that say where cells run."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

On = Annotated[
    str | None,
    typer.Option("--on", metavar="ENGINE", help="Where cells run: local, ray, slurm, or a plugin's engine."),
]

WorkerCount = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Cells at a time.  [default: one for each GPU, on a CPU one]"),
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the job that the engine would submit, as of slurm; nothing runs.")
]

NoWait = Annotated[
    bool, typer.Option("--no-wait", help="End when other runners have all cells that are left; trials are waited for.")
]


def command_words(suite: Path, output: Path, options: dict[str, Any], files: Iterable[Path]) -> tuple[str, ...]:
    """The words of the same command, for another process of this machine or one that shares its file system.

    Args:
        suite: the suite file.
        output: the folder of its records.
        options: by name what was given; None, False and nothing are left out, of several each is given by itself.
        files: plugin files.
    """
    words = [sys.executable, "-m", "prunebench", "run", str(suite.resolve()), "--output", str(output.resolve())]
    for name, value in {**options, "--plugin": [str(file.resolve()) for file in files]}.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            for one in value if isinstance(value, list) else [value]:
                words += [name, str(one)]
    return tuple(words)
