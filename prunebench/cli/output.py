"""How the commands answer: tables and JSON on stdout, all else on stderr."""

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunebench.text import printable

if TYPE_CHECKING:
    from prunebench.report.tables.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]


def print_table(caption: str, headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print one table."""
    from prunebench.report.tables.table import Table

    print_tables([Table(caption, headers, tuple(rows))])


def print_tables(tables: "Iterable[Table]") -> None:
    """Print tables as wide as the terminal."""
    from prunebench.report.output.text_tables import to_terminal

    typer.echo(to_terminal(tables, width()))


def width() -> int:
    """Columns of the terminal; where there is none, a fixed number."""
    from prunebench.report.output.text_tables import WIDTH

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


def print_or_write(content: str, output: Path | None) -> None:
    """Print text, or write it to a file and print where it is."""
    if output is None:
        typer.echo(content)
        return
    from prunebench.report.output.files import write

    typer.echo(str(write(output, content + "\n")))


def print_json(content: Any) -> None:
    """Print something as JSON."""
    typer.echo(json.dumps(content, indent=1, default=str))


def tell(message: str) -> None:
    """Say something to who runs the command: a line on stderr."""
    typer.echo(printable(message), err=True)
