"""The command line. Each command imports what it needs in its body, so that help comes at once."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from prunebench import cli_plugins
from prunebench.cli_plugins import PluginFiles
from prunebench.errors import PrunebenchError
from prunebench.report.text import plain

if TYPE_CHECKING:
    from prunebench.cell import Cell
    from prunebench.evaluation.zero_shot import TaskLibrary
    from prunebench.report.table import Table

INTERRUPTED = 130


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"


class _Commands(TyperGroup):
    """Reports every foreseen error as one line, with its own exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PrunebenchError as error:
            _tell(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _tell("interrupted")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="prunebench",
    cls=_Commands,
    help="Compare methods for making large language models sparse, on one footing.",
    epilog="Exit codes: 0 all is well; 1 a cell failed, the others are kept; 2 the request was wrong, nothing ran.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_plugins.app)

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
Device = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda or auto, for every model.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prunebench {version('prunebench')}")
        raise typer.Exit


@app.callback()
def _prunebench(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a sign that the terminal lacks is no reason to fail
            stream.reconfigure(errors="replace")


@app.command(short_help="Run a suite and print its tables.")
def run(
    suite: SuiteFile,
    output: Output = None,
    override: Overrides = None,
    only: Only = None,
    device: Device = None,
    plugin: PluginFiles = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run cells again whose record is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run every cell of a suite whose record is not there yet, and print the tables."""
    with _quiet_libraries():
        from prunebench.evaluation.zero_shot import TaskLibrary

        library = TaskLibrary()  # lm-eval takes long to look tasks up: once serves for both
        cells, folder = _planned(suite, output, override, only, device, plugin, library)

        from prunebench.display import display_for
        from prunebench.runner import run_suite

        try:
            with display_for(sys.stderr) as display:
                records = run_suite(cells, folder, display, fresh=fresh, library=library)
        except KeyboardInterrupt:
            _tell(f"interrupted: the records so far are in {folder}; the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
    failed = sum(record.status == "failed" for record in records)
    if as_json:
        cell_states = [{"id": record.cell.id, "status": record.status} for record in records]
        _print_json({"output": str(folder), "ok": len(records) - failed, "failed": failed, "cells": cell_states})
    else:
        from prunebench.report.tables import all_tables

        _print_tables(all_tables(records, order=list(dict.fromkeys(cell.method for cell in cells))))
        again = f"prunebench report {shlex.quote(str(folder))}"
        _tell("")
        _tell(f"records: {folder}; the tables again, also as Markdown, LaTeX or CSV: {again}")
    if failed:
        _tell(f"{failed} of {len(records)} cells failed; the same command tries them again")
        raise typer.Exit(1)


@app.command()
def plan(
    suite: SuiteFile,
    output: Output = None,
    override: Overrides = None,
    only: Only = None,
    device: Device = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a suite, and which have their record already."""
    with _quiet_libraries():
        cells, folder = _planned(suite, output, override, only, device, plugin)
    states = [_state(folder, cell) for cell in cells]
    if as_json:
        _print_json(
            [cell.model_dump(mode="json") | {"record": state} for cell, state in zip(cells, states, strict=True)]
        )
        return
    rows = [
        (cell.model, cell.method, cell.asked, str(cell.seed), state or "to run")
        for cell, state in zip(cells, states, strict=True)
    ]
    done = states.count("ok")
    _print_table(
        f"{len(cells)} cells, {done} already in {folder}", ("model", "method", "sparsity", "seed", "record"), rows
    )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of records, as run makes it.")],
    style: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Every measurement as JSON, as in the CSV.")] = False,
) -> None:
    """Print the tables of a results folder, from its records alone."""
    from prunebench.record import read_records
    from prunebench.report import render, tables, tidy

    records = read_records(folder)
    if as_json:
        _print_json(tidy.to_plain_json(records))
    elif style is Format.CSV:
        typer.echo(tidy.to_csv(records))
    elif style is Format.TABLE:
        _print_tables(tables.all_tables(records))
    else:
        write = render.to_markdown if style is Format.MARKDOWN else render.to_latex
        typer.echo(write(tables.all_tables(records)))


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A method, to see its options.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the installed methods, or the options of one."""
    with _quiet_libraries():
        from prunebench.plugins import describe, describe_all

        found = describe(name, plugin or ()) if name is not None else describe_all(plugin or ())
    if as_json:
        _print_json(found)
    elif isinstance(found, list):
        rows = [
            (
                e["name"],
                e["distribution"] or "–",
                e["version"] or "–",
                f"error: {e['error']}" if e["error"] else e["summary"],
            )
            for e in found
        ]
        _print_table("Installed methods", ("method", "distribution", "version", "summary"), rows)
    else:
        title = f"{found['name']} ({found['distribution']} {found['version']}): {found['summary']}"
        rows = [(o["name"], o["type"], json.dumps(o["default"]), o["docs"]) for o in found["options"]]
        _print_table(title if rows else f"{title} It has no options.", ("option", "type", "default", "what"), rows)


def _planned(
    suite: Path,
    output: Path | None,
    override: list[str] | None,
    only: list[str] | None,
    device: str | None,
    plugin: list[Path] | None,
    library: "TaskLibrary | None" = None,
) -> "tuple[tuple[Cell, ...], Path]":
    """The cells of a suite and the folder of their records."""
    from prunebench.cell import plan as plan_cells
    from prunebench.suite import load_suite

    asked = load_suite(suite, override or ())
    cells = plan_cells(asked, only=only or (), device=device, library=library, plugin_files=plugin or ())
    return cells, output or Path("results") / asked.name


def _state(folder: Path, cell: "Cell") -> str | None:
    """Status of the cell's record; None where there is none that can be read."""
    from prunebench.record import RecordError, read_record

    path = folder / f"{cell.id}.json"
    try:
        return read_record(path).status if path.exists() else None
    except RecordError:
        return None


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep what libraries and plugins say on their own behalf off stdout, and mostly off stderr.

    The environment (``TRANSFORMERS_VERBOSITY``, ``PYTHONWARNINGS`` …) can still ask for it.
    """
    import warnings

    for variable, value in (
        ("TOKENIZERS_PARALLELISM", "false"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DATASETS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
    ):
        os.environ.setdefault(variable, value)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        if not sys.warnoptions:
            foreign = r"(torch|transformers|datasets|lm_eval|huggingface_hub|tokenizers)(\.|$)"
            warnings.filterwarnings("ignore", module=foreign)
        yield


def _print_table(caption: str, headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from prunebench.report.table import Table

    _print_tables([Table(caption, headers, tuple(rows))])


def _print_tables(tables: "Iterable[Table]") -> None:
    from prunebench.report.render import WIDTH, to_terminal

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    typer.echo(to_terminal(tables, width))


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=1, default=str))


def _tell(message: str) -> None:
    typer.echo(plain(message), err=True)


def main() -> None:
    """Entry point of the command ``prunebench``."""
    app()
