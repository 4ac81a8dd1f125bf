"""Command line arguments shared by ``run`` and ``plan``, and the cells and records that they select."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.cli.output import print_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunebench.records.record import Record
    from prunebench.registry.reading import Reader
    from prunebench.suite.cell import Cell
    from prunebench.suite.schema import Suite

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
    list[str] | None, typer.Option("--only", metavar="METHOD", help="Only this method of the suite; repeatable.")
]

Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, auto or disk, for every model.")
]


@dataclass(frozen=True)
class Request:
    """A suite as a command line asks for it.

    Args:
        suite: loaded, with its overrides.
        folder: of the records.
        how: what ``plan_trials`` and ``plan_tuned`` are given besides.
    """

    suite: "Suite"
    folder: Path
    how: dict[str, Any]

    def trials(self) -> "tuple[Cell, ...]":
        """The cells in which options are tried; none in most suites."""
        from prunebench.suite.tuning import plan_trials

        return plan_trials(self.suite, **self.how)

    def cells(self, trials: "Sequence[Record]") -> "tuple[tuple[Cell, ...], list[str]]":
        """The suite's own cells, with the options that its trials chose, and what is left out."""
        from prunebench.suite.tuning import plan_tuned

        return plan_tuned(self.suite, trials, **self.how)

    @property
    def trials_folder(self) -> Path:
        """Where the records of trials are."""
        from prunebench.suite.tuning import TRIALS

        return self.folder / TRIALS


def load_request(
    suite: Path,
    output: Path | None,
    override: list[str] | None,
    only: list[str] | None,
    device: str | None,
    plugin: list[Path] | None,
    reader: "Reader | None",
) -> Request:
    """Load a suite, which is planned with plugins imported by ``reader``."""
    from prunebench.registry.reading import PluginFiles
    from prunebench.suite.file import load_suite

    files = PluginFiles(plugin or (), reader)
    loaded = load_suite(suite, override or (), files)
    how = {"only": only or (), "device": device, "plugin_files": files, "tell": print_message}
    return Request(loaded, output or Path("results") / loaded.name, how)


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
