"""The command line. Each command imports what it needs in its body, so that help comes at once."""

import json
import shlex
import sys
from contextlib import nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from prunebench.cli import plugins as cli_plugins
from prunebench.cli import results as cli_records
from prunebench.cli.output import AsJson, print_json, print_table, print_tables, tell
from prunebench.cli.plugins import PluginFiles
from prunebench.cli.signals import ending_on_signals, exit_code_of, name_of
from prunebench.errors import PrunebenchError, UsageError
from prunebench.files import is_of_the_disk, why
from prunebench.quiet import quiet_libraries

if TYPE_CHECKING:
    from prunebench.records.record import Record
    from prunebench.suite.cell import Cell
    from prunebench.suite.schema import Suite


class _Commands(TyperGroup):
    """Reports every foreseen error as one line, with its own exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()  # now, while a full disk can still be told of
            return answer
        except PrunebenchError as error:
            tell(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            raise typer.Exit(_told_of_the_disk(error)) from None
        except KeyboardInterrupt as stop:
            tell(name_of(stop))
            raise typer.Exit(exit_code_of(stop)) from None


def _told_of_the_disk(error: OSError) -> int:
    """Say that something cannot be written; the exit code. Raises what is no such error."""
    if not is_of_the_disk(error):
        raise error
    tell(f"error: cannot write what was asked for: {why(error)}")
    with suppress(OSError):  # what is left unwritten would be tried again at the end
        sys.stdout.close()
    return UsageError.exit_code


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
Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, auto or disk, for every model.")
]


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
    save_models: Annotated[
        bool, typer.Option("--save-models", help="Keep the pruned models: DIR/models, and DIR/sparse, compact.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only the I-th of N shares of the cells; see merge.")
    ] = None,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process", envvar="PRUNEBENCH_IN_PROCESS", help="Run cells in this process, without limits; to debug."
        ),
    ] = False,
    every: Annotated[
        float,
        typer.Option("--checkpoint-every", min=0, metavar="SECONDS", help="Between two saves of a cell's progress."),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Run every cell of a suite whose record is not there yet, and print the tables.

    Cells run in a process of their own: one that crashes, hangs or takes too much memory fails, and the others go on.
    """
    with quiet_libraries(), ending_on_signals():
        from prunebench.suite.cell import shard_of

        asked, cells, folder = _planned(suite, output, override, only, device, plugin)
        cells = shard_of(cells, shard)
        if not cells:
            return tell(f"--shard {shard} holds none of the suite's cells: there is nothing to do")

        from prunebench.cli.progress import display_for
        from prunebench.runner.isolated import Isolated, Limits
        from prunebench.runner.run_cell import InProcess
        from prunebench.runner.sweep import run_suite

        limits = Limits(asked.timeout, asked.memory_limit)
        try:
            with (
                display_for(sys.stderr) as display,
                nullcontext(InProcess(every=every)) if in_process else Isolated(limits, every=every) as executor,
            ):
                records = run_suite(cells, folder, display, fresh=fresh, save_models=save_models, executor=executor)
        except KeyboardInterrupt as stop:
            tell(f"{name_of(stop)}: the records so far are in {folder}; the same command goes on from there")
            raise typer.Exit(exit_code_of(stop)) from None
    if save_models:
        from prunebench.report.output.model_card import write_cards

        write_cards(folder, records)
    failed = sum(record.status == "failed" for record in records)
    if as_json:
        cell_states = [{"id": record.cell.id, "status": record.status} for record in records]
        print_json({"output": str(folder), "ok": len(records) - failed, "failed": failed, "cells": cell_states})
    else:
        from prunebench.report.output.files import write_html
        from prunebench.report.paired import Evidence
        from prunebench.report.tables.perplexity import all_tables

        order = list(dict.fromkeys(cell.method for cell in cells))
        print_tables(all_tables(records, order, Evidence(folder)))
        page = write_html(_everything(folder), folder, order, Evidence(folder))
        again = f"prunebench report {shlex.quote(str(folder))}"
        tell("")
        tell(f"report: {page}; records: {folder}; the tables again, also as Markdown, LaTeX or CSV: {again}")
    if failed:
        tell(f"{failed} of {len(records)} cells failed; the same command tries them again")
        raise typer.Exit(1)


@app.command()
def plan(
    suite: SuiteFile,
    output: Output = None,
    override: Overrides = None,
    only: Only = None,
    device: Device = None,
    plugin: PluginFiles = None,
    forecast: Annotated[
        bool, typer.Option("--forecast/--no-forecast", help="Foretell time, memory and disk by short runs.")
    ] = True,
    seconds: Annotated[float, typer.Option(min=0.1, help="After which a short run is stopped.")] = 5.0,
    save_models: Annotated[bool, typer.Option("--save-models", help="Count the disk that saved models take.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a suite, which have their record already, and what the others will cost.

    Each method is started on each model and stopped after a few seconds. The forecasts are kept beside the records, so
    that a report can show them against what was measured.
    """
    from prunebench.cli.progress import asked
    from prunebench.records.store import read_forecasts, write_forecasts

    with quiet_libraries():
        _, cells, folder = _planned(suite, output, override, only, device, plugin)
        records = [_record_of(folder, cell) for cell in cells]
        to_run = [cell for cell, record in zip(cells, records, strict=True) if record is None or record.status != "ok"]
        if forecast and to_run:
            from prunebench.runner.forecast import foretell
            from prunebench.runner.resources import Workshop

            workshop = Workshop(output=folder)
            workshop.prepare(to_run)
            found = foretell(to_run, workshop, seconds=seconds, save_models=save_models, tell=tell)
            write_forecasts(folder, found)
        forecasts = read_forecasts(folder)
    if as_json:
        print_json(
            [
                cell.model_dump(mode="json")
                | {"record": record and record.status}
                | {"forecast": forecasts[cell.id].model_dump() if cell.id in forecasts else None}
                for cell, record in zip(cells, records, strict=True)
            ]
        )
        return
    from prunebench.report.tables.forecasts import forecast_tables, plan_table

    rows = [((cell.model, cell.method, asked(cell), str(cell.seed)), cell.id) for cell in cells]
    known = {record.cell.id: record for record in records if record is not None}
    print_tables([plan_table(rows, known, forecasts, str(folder)), *forecast_tables(list(known.values()), forecasts)])


app.command()(cli_records.report)
app.command(short_help="Compare two results folders; a regression gate.")(cli_records.compare)
app.command()(cli_records.merge)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A method, to see its options.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the installed methods, or the options of one."""
    with quiet_libraries():
        from prunebench.registry.entry_points import describe, describe_all

        found = describe(name, plugin or ()) if name is not None else describe_all(plugin or ())
    if as_json:
        print_json(found)
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
        print_table("Installed methods", ("method", "distribution", "version", "summary"), rows)
    else:
        title = f"{found['name']} ({found['distribution']} {found['version']}): {found['summary']}"
        rows = [(o["name"], o["type"], json.dumps(o["default"]), o["docs"]) for o in found["options"]]
        print_table(title if rows else f"{title} It has no options.", ("option", "type", "default", "what"), rows)


def _planned(
    suite: Path,
    output: Path | None,
    override: list[str] | None,
    only: list[str] | None,
    device: str | None,
    plugin: list[Path] | None,
) -> "tuple[Suite, tuple[Cell, ...], Path]":
    """A suite, its cells and the folder of their records."""
    from prunebench.suite.cell import plan as plan_cells
    from prunebench.suite.file import load_suite

    asked = load_suite(suite, override or ())
    cells = plan_cells(asked, only=only or (), device=device, plugin_files=plugin or ())
    return asked, cells, output or Path("results") / asked.name


def _record_of(folder: Path, cell: "Cell") -> "Record | None":
    """The cell's record; None where there is none that is whole, so that the cell will run."""
    from prunebench.records.quarantine import whole_record
    from prunebench.records.store import RecordError

    try:
        return whole_record(folder, cell.id)
    except RecordError as error:
        tell(f"to be run again: {error.reason}")
        return None


def _everything(folder: Path) -> "list[Record]":
    """All whole records of a folder, those of other runs too."""
    from prunebench.records.store import read_records

    return read_records(folder, leave_out=tell)


def main() -> None:
    """Entry point of the command ``prunebench``."""
    try:
        app()
    except OSError as error:  # help is written before any command is invoked
        sys.exit(_told_of_the_disk(error))
