"""Command line arguments shared by ``run`` and ``plan``, and the cells and records that they select."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.cli.completion import method_names
from prunebench.cli.output import print_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from prunebench.records.record import Record
    from prunebench.registry.reading import Reader
    from prunebench.suite.cell import Cell
    from prunebench.suite.schema import Suite
    from prunebench.suite.tuning import TunedPlan

SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite file (YAML).")]

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder of the records.  [default: results/<suite name>]"),
]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a value of the suite, as calibration.nsamples=8; repeatable."
    ),
]

Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="METHOD", help="Only this method of the suite; repeatable.", autocompletion=method_names
    ),
]

Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, auto or disk, for every model.")
]

InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process", envvar="PRUNEBENCH_IN_PROCESS", help="Run cells in this process, without limits; to debug."
    ),
]


def read_suite(
    suite: Path, override: list[str] | None, only: list[str] | None, plugin: list[Path] | None, reader: "Reader | None"
) -> "Suite":
    """Load a suite, and say what it asks for: the first line that a command prints.

    Args:
        suite, override, only, plugin: as the command has them.
        reader: imports the plugins of others.
    """
    from prunebench.registry.reading import PluginFiles
    from prunebench.suite.file import load_suite
    from prunebench.suite.outline import outline

    loaded = load_suite(suite, override or (), PluginFiles(plugin or (), reader))
    print_message(outline(loaded, only or ()))
    return loaded


def evaluations_of(suite: "Suite", model: str) -> "list[dict[str, Any]]":
    """The evaluations that a suite makes of a model, for another suite with that model alone, at any sparsity.

    Args:
        suite: may name, with an evaluation, the models and sparsities that it is for.
        model: its label.
    """
    chosen = [entry for entry in suite.evaluations if entry.is_for(model)]
    return [{**plain(entry), "name": entry.name, **dict.fromkeys(entry.axes)} for entry in chosen]


def plain(entry: "BaseModel") -> "dict[str, Any]":
    """An entry of a suite as plain JSON, without what is at its default."""
    return entry.model_dump(mode="json", exclude_defaults=True)


def plan_suite(
    suite: "Suite",
    output: Path | None,
    only: list[str] | None,
    device: str | None,
    plugin: list[Path] | None,
    reader: "Reader | None",
) -> "tuple[TunedPlan, Path]":
    """Plan a suite, with plugins imported by ``reader``.

    Returns:
        Its cells and trials, and the folder of its records.
    """
    with _without_collection():
        from prunebench.registry.reading import PluginFiles
        from prunebench.suite.tuning import plan_tuned

        files = PluginFiles(plugin or (), reader)
        planned = plan_tuned(suite, only=only or (), device=device, plugin_files=files, tell=print_message)
    return planned, output or Path("results") / suite.name


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for garbage, now or later, among what is imported here: it would take long, and find none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def existing_record(folder: Path, cell: "Cell") -> "Record | None":
    """The record of a cell; None if it is missing or damaged, so that the cell will run."""
    from prunebench.errors import RecordError
    from prunebench.records.quarantine import read_intact_record

    try:
        return read_intact_record(folder, cell.id)
    except RecordError as error:
        print_message(f"to be run again: {error.reason}")
        return None


def reasons_to_run(folder: Path, cells: "Sequence[Cell]") -> dict[str, str]:
    """By the id of a cell that is to be run, why the records of its kind in a folder do not do.

    Records of one kind share the readable part of their names, so that few files are read.
    """
    from prunebench.errors import RecordError
    from prunebench.records.store import read_record
    from prunebench.suite.identity import reason_to_run

    by_slug: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.json")) if cells else ():
        by_slug.setdefault(path.stem.rpartition("--")[0], []).append(path)
    reasons = {}
    for cell in cells:
        similar = []
        for path in by_slug.get(cell.id.rpartition("--")[0], ()):
            with suppress(RecordError):  # a damaged one is told of elsewhere
                similar.append(read_record(path))
        if (reason := reason_to_run(cell, similar)) is not None:
            reasons[cell.id] = reason
    return reasons


def all_records(folder: Path) -> "list[Record]":
    """All valid records of a folder, those of other runs included."""
    from prunebench.records.store import read_records

    return read_records(folder, leave_out=print_message)
