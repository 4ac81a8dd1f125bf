"""The command line. Each command imports what it needs in its body, so that help comes at once."""

import json
import math
import shlex
import shutil
import sys
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from prunebench import cli_plugins
from prunebench.cli_plugins import PluginFiles
from prunebench.errors import PrunebenchError, UsageError
from prunebench.quiet import quiet_libraries
from prunebench.report.text import plain
from prunebench.signals import ending_on_signals, exit_code_of, name_of
from prunebench.writing import is_of_the_disk, why

if TYPE_CHECKING:
    from prunebench.cell import Cell
    from prunebench.record import Record
    from prunebench.report.table import Table
    from prunebench.suite import Suite


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    PARQUET = "parquet"
    HTML = "html"
    SVG = "svg"
    PDF = "pdf"


class ComparisonFormat(StrEnum):
    """How a comparison is written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JUNIT = "junit"
    JSON = "json"


class _Commands(TyperGroup):
    """Reports every foreseen error as one line, with its own exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()  # now, while a full disk can still be told of
            return answer
        except PrunebenchError as error:
            _tell(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if not is_of_the_disk(error):
                raise
            _tell(f"error: cannot write what was asked for: {why(error)}")
            with suppress(OSError):  # what is left unwritten would be tried again at the end
                sys.stdout.close()
            raise typer.Exit(UsageError.exit_code) from None
        except KeyboardInterrupt as stop:
            _tell(name_of(stop))
            raise typer.Exit(exit_code_of(stop)) from None


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
        from prunebench.cell import shard_of

        asked, cells, folder = _planned(suite, output, override, only, device, plugin)
        cells = shard_of(cells, shard)

        from prunebench.display import display_for
        from prunebench.execution import InProcess
        from prunebench.isolation import Isolated, Limits
        from prunebench.runner import run_suite

        limits = Limits(asked.timeout, asked.memory_limit)
        try:
            with (
                display_for(sys.stderr) as display,
                nullcontext(InProcess(every=every)) if in_process else Isolated(limits, every=every) as executor,
            ):
                records = run_suite(cells, folder, display, fresh=fresh, save_models=save_models, executor=executor)
        except KeyboardInterrupt as stop:
            _tell(f"{name_of(stop)}: the records so far are in {folder}; the same command goes on from there")
            raise typer.Exit(exit_code_of(stop)) from None
    if save_models:
        from prunebench.report.card import write_cards

        write_cards(folder, records)
    failed = sum(record.status == "failed" for record in records)
    if as_json:
        cell_states = [{"id": record.cell.id, "status": record.status} for record in records]
        _print_json({"output": str(folder), "ok": len(records) - failed, "failed": failed, "cells": cell_states})
    else:
        from prunebench.report.evidence import Evidence
        from prunebench.report.files import write_html
        from prunebench.report.tables import all_tables

        order = list(dict.fromkeys(cell.method for cell in cells))
        _print_tables(all_tables(records, order, Evidence(folder)))
        page = write_html(_everything(folder), folder, order, Evidence(folder))
        again = f"prunebench report {shlex.quote(str(folder))}"
        _tell("")
        _tell(f"report: {page}; records: {folder}; the tables again, also as Markdown, LaTeX or CSV: {again}")
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
    from prunebench.display import asked
    from prunebench.record import read_forecasts, write_forecasts

    with quiet_libraries():
        _, cells, folder = _planned(suite, output, override, only, device, plugin)
        records = [_record_of(folder, cell) for cell in cells]
        to_run = [cell for cell, record in zip(cells, records, strict=True) if record is None or record.status != "ok"]
        if forecast and to_run:
            from prunebench.forecast import foretell
            from prunebench.workshop import Workshop

            workshop = Workshop(output=folder)
            workshop.prepare(to_run)
            found = foretell(to_run, workshop, seconds=seconds, save_models=save_models, tell=_tell)
            write_forecasts(folder, found)
        forecasts = read_forecasts(folder)
    if as_json:
        _print_json(
            [
                cell.model_dump(mode="json")
                | {"record": record and record.status}
                | {"forecast": forecasts[cell.id].model_dump() if cell.id in forecasts else None}
                for cell, record in zip(cells, records, strict=True)
            ]
        )
        return
    from prunebench.report.forecasts import forecast_tables, plan_table

    rows = [((cell.model, cell.method, asked(cell), str(cell.seed)), cell.id) for cell in cells]
    known = {record.cell.id: record for record in records if record is not None}
    _print_tables([plan_table(rows, known, forecasts, str(folder)), *forecast_tables(list(known.values()), forecasts)])


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of records, as run makes it.")],
    style: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TABLE,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file; for svg and pdf a folder.  [default: DIR/report.html, DIR/plots …; text is printed]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every measurement as JSON, as in the CSV.")] = False,
) -> None:
    """Print the tables of a results folder, or write them with plots as one HTML page, from its records alone."""
    from prunebench.record import read_records
    from prunebench.report import render, tables, tidy
    from prunebench.report.evidence import Evidence

    records, evidence = read_records(folder, leave_out=_tell), Evidence(folder)
    if as_json:
        _print_or_write(json.dumps(tidy.to_plain_json(records), indent=1), output)
    elif style is Format.CSV:
        _print_or_write(tidy.to_csv(records), output)
    elif style is Format.PARQUET:
        tidy.write_parquet(records, path := output or folder / "measurements.parquet")
        typer.echo(str(path))
    elif style is Format.HTML:
        from prunebench.report.files import write_html

        typer.echo(str(write_html(records, folder, evidence=evidence, path=output)))
    elif style in (Format.SVG, Format.PDF):
        from prunebench.report.files import write_plots

        for path in write_plots(records, output or folder / "plots", "svg" if style is Format.SVG else "pdf"):
            typer.echo(str(path))
    elif style is Format.TABLE and output is None:
        _print_tables(tables.all_tables(records, evidence=evidence))
    else:
        as_text = {Format.MARKDOWN: render.to_markdown, Format.LATEX: render.to_latex}.get(style, render.to_terminal)
        _print_or_write(as_text(tables.all_tables(records, evidence=evidence)), output)


@app.command(short_help="Compare two results folders; a regression gate.")
def compare(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The results folder to hold against.")],
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="The results folder that is judged.")],
    max_perplexity: Annotated[str, typer.Option(metavar="PERCENT", help="Perplexity may rise by so much.")] = "1%",
    max_accuracy: Annotated[
        float, typer.Option(min=0, metavar="POINTS", help="Accuracy may fall by so many points (percent of questions).")
    ] = 0.5,
    trained: Annotated[
        float, typer.Option(min=1, metavar="FACTOR", help="Both times so much for methods that train the model.")
    ] = 3.0,
    max_time: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Pruning may take so much longer on one machine.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Peak memory may rise by so much on one machine.")
    ] = None,
    style: Annotated[ComparisonFormat, typer.Option("--format", help="How to write it.")] = ComparisonFormat.TABLE,
    as_json: AsJson = False,
) -> None:
    """Compare two results folders, cell by cell.

    A regression is a change that is both significant (paired tests) and beyond its tolerance.
    Exit codes: 0 no regression; 1 a regression; 2 something could not be compared, and no regression was found.
    """
    from prunebench.record import read_records
    from prunebench.report import compare_formats
    from prunebench.report.compare import compare as compare_records
    from prunebench.report.comparison import Tolerances
    from prunebench.report.evidence import Evidence

    tolerances = Tolerances(
        perplexity=_percentage("--max-perplexity", max_perplexity),
        accuracy=_finite("--max-accuracy", max_accuracy) / 100,
        trained=_finite("--trained", trained),
        time=None if max_time is None else _percentage("--max-time", max_time),
        memory=None if max_memory is None else _percentage("--max-memory", max_memory),
    )
    found = compare_records(read_records(base), read_records(head), Evidence(base), Evidence(head), tolerances)
    if as_json or style is ComparisonFormat.JSON:
        _print_json(compare_formats.comparison_to_json(found))
    elif style is ComparisonFormat.MARKDOWN:
        typer.echo(compare_formats.comparison_to_markdown(found))
    elif style is ComparisonFormat.JUNIT:
        typer.echo(compare_formats.comparison_to_junit(found))
    else:
        typer.echo(compare_formats.comparison_to_terminal(found, _width()))
    if found.exit_code == 2:
        if found.refused:
            _tell("error: some cells cannot be compared; make the records of BASE again with what HEAD was made with")
        elif found.cells:
            _tell(f"error: every cell that {base} and {head} share failed on one side or both: nothing was compared")
        else:
            _tell(f"error: {base} and {head} have no cell in common: nothing was compared")
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _finite(option: str, given: float) -> float:
    """A tolerance that is not finite would let everything pass."""
    if not math.isfinite(given):
        raise UsageError(f"{option} {given} is not finite: give a number such as 0.5 or 3")
    return given


def _percentage(option: str, given: str) -> float:
    """``1%`` as 0.01; a bare number is refused, for nobody would know which of the two it is."""
    try:
        value = float(given.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not given.strip().endswith("%") or not 0 <= value < float("inf"):
        raise UsageError(f"{option} {given!r} is no percentage: give one such as 1% or 0.5%")
    return value / 100


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Results folders, as of shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that gets all of them.")],
    as_json: AsJson = False,
) -> None:
    """Join results folders in one, with arrays and saved models, and report what disagrees.

    A cell that several folders have, all with the same outcome, is taken once; one that ran well goes before one that
    failed. Of a cell whose outcomes differ the first is taken, and reported.
    Exit codes: 0 all is joined; 1 some cells disagree; 2 a folder cannot be read or written.
    """
    from prunebench.merge import merge_records

    merged = merge_records(folders, output)
    if as_json:
        _print_json(merged.to_json())
    else:
        _tell(f"{merged.cells} cells in {output}, {merged.copied} of them new")
        rows = [
            (conflict.cell, conflict.differs, str(conflict.taken), str(conflict.left)) for conflict in merged.conflicts
        ]
        if rows:
            _print_table("Cells that disagree", ("cell", "differs in", "taken", "left"), rows)
    if merged.conflicts:
        raise typer.Exit(1)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A method, to see its options.")] = None,
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the installed methods, or the options of one."""
    with quiet_libraries():
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
) -> "tuple[Suite, tuple[Cell, ...], Path]":
    """A suite, its cells and the folder of their records."""
    from prunebench.cell import plan as plan_cells
    from prunebench.suite import load_suite

    asked = load_suite(suite, override or ())
    cells = plan_cells(asked, only=only or (), device=device, plugin_files=plugin or ())
    return asked, cells, output or Path("results") / asked.name


def _record_of(folder: Path, cell: "Cell") -> "Record | None":
    """The cell's record; None where there is none that is whole, so that the cell will run."""
    from prunebench.aside import whole_record
    from prunebench.record import RecordError

    try:
        return whole_record(folder, cell.id)
    except RecordError as error:
        _tell(f"to be run again: {error.reason}")
        return None


def _print_table(caption: str, headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from prunebench.report.table import Table

    _print_tables([Table(caption, headers, tuple(rows))])


def _print_tables(tables: "Iterable[Table]") -> None:
    from prunebench.report.render import to_terminal

    typer.echo(to_terminal(tables, _width()))


def _width() -> int:
    from prunebench.report.render import WIDTH

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


def _everything(folder: Path) -> "list[Record]":
    """All whole records of a folder, those of other runs too."""
    from prunebench.record import read_records

    return read_records(folder, leave_out=_tell)


def _print_or_write(content: str, output: Path | None) -> None:
    if output is None:
        typer.echo(content)
        return
    from prunebench.report.files import write

    typer.echo(str(write(output, content + "\n")))


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=1, default=str))


def _tell(message: str) -> None:
    typer.echo(plain(message), err=True)


def main() -> None:
    """Entry point of the command ``prunebench``."""
    app()
