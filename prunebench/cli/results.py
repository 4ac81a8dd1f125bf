"""The commands ``report``, ``compare`` and ``merge``, which work on results folders."""

import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from prunebench.cli.output import (
    AsJson,
    print_json,
    print_message,
    print_or_write,
    print_table,
    print_tables,
    terminal_width,
)
from prunebench.errors import UsageError


class Format(StrEnum):
    """Output formats of ``report``."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    PARQUET = "parquet"
    HTML = "html"
    SVG = "svg"
    PDF = "pdf"


class PaperStyleName(StrEnum):
    """Venues whose sizes and fonts plots can have."""

    NEURIPS = "neurips"
    ICML = "icml"
    ACL = "acl"


class Panels(StrEnum):
    """How plots with the same axes stand in a paper."""

    TOGETHER = "together"
    APART = "apart"


class ComparisonFormat(StrEnum):
    """Output formats of ``compare``."""

    TABLE = "table"
    MARKDOWN = "markdown"
    COMMENT = "comment"
    JUNIT = "junit"
    JSON = "json"


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of records, as run makes it.")],
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TABLE,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file; for svg, pdf and --style a folder.  [default: DIR/report.html, DIR/plots …; text is printed]",
        ),
    ] = None,
    style: Annotated[
        PaperStyleName | None,
        typer.Option("--style", help="What a paper takes: plots in a venue's sizes, LaTeX, BibTeX, a paragraph."),
    ] = None,
    panels: Annotated[
        Panels, typer.Option("--panels", help="With --style: plots of all models in one figure, or each in its own.")
    ] = Panels.TOGETHER,
    as_json: Annotated[bool, typer.Option("--json", help="Every measurement as JSON, as in the CSV.")] = False,
) -> None:
    """Print the tables of a results folder, or write them with plots as one HTML page, from its records alone."""
    from prunebench.records.arrays import ArrayStore
    from prunebench.records.saved_models import altered_models
    from prunebench.records.store import read_records
    from prunebench.report.output import text_tables as render
    from prunebench.report.output import tidy
    from prunebench.report.sections import all_tables

    records, array_store = read_records(folder, leave_out=print_message), ArrayStore(folder)
    for record in records:
        for message in altered_models(folder, record):
            print_message(message)
    if style is not None:
        if as_json or form not in (Format.TABLE, Format.SVG, Format.PDF):
            raise UsageError(
                f"--style {style.value} writes a folder, or plots with --format svg or pdf: leave out --json and other "
                "formats"
            )
        from prunebench.registry.citations import with_citations
        from prunebench.report.paper.files import write_figures, write_paper
        from prunebench.report.paper.references import refused_citations

        apart = panels is Panels.APART
        if form is Format.TABLE:
            records = with_citations(records)
            written = write_paper(records, output or folder / "paper", style.value, array_store, apart=apart)
            for line in refused_citations(records):
                print_message(f"left out of references.bib, {line}")
        else:
            kind: Literal["svg", "pdf"] = "svg" if form is Format.SVG else "pdf"
            written = write_figures(records, output or folder / "plots", style.value, kind, array_store, apart=apart)
        for path in written:
            typer.echo(str(path))
    elif as_json:
        print_or_write(json.dumps(tidy.to_plain_json(records), indent=1), output)
    elif form is Format.CSV:
        print_or_write(tidy.to_csv(records), output)
    elif form is Format.PARQUET:
        from prunebench.report.output.files import own_file

        tidy.write_parquet(records, path := output or own_file(folder, "measurements.parquet"))
        typer.echo(str(path))
    elif form is Format.HTML:
        from prunebench.report.output.files import write_html

        typer.echo(str(write_html(records, folder, array_store=array_store, path=output)))
    elif form in (Format.SVG, Format.PDF):
        from prunebench.report.output.files import write_plots

        for path in write_plots(records, output or folder / "plots", "svg" if form is Format.SVG else "pdf"):
            typer.echo(str(path))
    elif form is Format.TABLE and output is None:
        print_tables(all_tables(records, array_store=array_store))
    else:
        as_text = {Format.MARKDOWN: render.to_markdown, Format.LATEX: render.to_latex}.get(form, render.to_terminal)
        print_or_write(as_text(all_tables(records, array_store=array_store)), output)


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
    mark: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Of a comment, what its invisible first line names it.  [default: BASE]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two results folders, cell by cell.

    A regression is a change that is both significant (paired tests) and beyond its tolerance.
    Exit codes: 0 no regression; 1 a regression; 2 something could not be compared, and no regression was found.
    """
    from prunebench.records.arrays import ArrayStore
    from prunebench.records.store import read_records
    from prunebench.report.compare import formats as compare_formats
    from prunebench.report.compare.compare import compare_records
    from prunebench.report.compare.verdict import Tolerances, Verdict

    tolerances = Tolerances(
        perplexity=_percentage("--max-perplexity", max_perplexity),
        accuracy=_finite("--max-accuracy", max_accuracy) / 100,
        trained=_finite("--trained", trained),
        time=None if max_time is None else _percentage("--max-time", max_time),
        memory=None if max_memory is None else _percentage("--max-memory", max_memory),
    )
    comparison = compare_records(read_records(base), read_records(head), ArrayStore(base), ArrayStore(head), tolerances)
    if as_json or style is ComparisonFormat.JSON:
        print_json(compare_formats.comparison_to_json(comparison))
    elif style is ComparisonFormat.MARKDOWN:
        typer.echo(compare_formats.comparison_to_markdown(comparison))
    elif style is ComparisonFormat.COMMENT:
        from prunebench.report.compare.comment import comparison_to_comment

        typer.echo(comparison_to_comment(comparison, str(base) if mark is None else mark))
    elif style is ComparisonFormat.JUNIT:
        typer.echo(compare_formats.comparison_to_junit(comparison))
    else:
        typer.echo(compare_formats.comparison_to_terminal(comparison, terminal_width()))
    if comparison.exit_code == 2:
        if comparison.refused:
            print_message(
                "error: some cells cannot be compared; make the records of BASE again with what HEAD was made with"
            )
        elif comparison.count(Verdict.CANNOT_TELL):
            print_message(
                f"error: {base} and {head} have other seeds, and too few of them to tell; run more, or the same"
            )
        elif comparison.cells:
            print_message(
                f"error: every cell that {base} and {head} share failed on one side or both: nothing was compared"
            )
        else:
            print_message(f"error: {base} and {head} have no cell in common: nothing was compared")
    if comparison.exit_code:
        raise typer.Exit(comparison.exit_code)


def _finite(option: str, value: float) -> float:
    """Refuse a tolerance that is not finite: it would let everything pass."""
    if not math.isfinite(value):
        raise UsageError(f"{option} {value} is not finite: give a number such as 0.5 or 3")
    return value


def _percentage(option: str, argument: str) -> float:
    """Parse ``1%`` as 0.01. A bare number is refused: it could be meant as a percentage or a fraction."""
    try:
        value = float(argument.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not argument.strip().endswith("%") or not 0 <= value < float("inf"):
        raise UsageError(f"{option} {argument!r} is no percentage: give one such as 1% or 0.5%")
    return value / 100


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
    from prunebench.records.merge import merge_records

    merged = merge_records(folders, output)
    if as_json:
        print_json(merged.to_json())
    else:
        print_message(f"{merged.cells} cells in {output}, {merged.copied} of them new")
        rows = [
            (conflict.cell, conflict.differs, str(conflict.taken), str(conflict.left)) for conflict in merged.conflicts
        ]
        if rows:
            print_table("Cells that disagree", ("cell", "differs in", "taken", "left"), rows)
    if merged.conflicts:
        raise typer.Exit(1)
