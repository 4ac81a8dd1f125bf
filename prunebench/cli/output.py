"""Output of the commands: tables and JSON on stdout, messages on stderr."""

import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from prunebench.text import hanging, printable

if TYPE_CHECKING:
    from prunebench.report.tables.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]


def print_table(caption: str, headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print one table to stdout."""
    from prunebench.report.tables.table import Table

    print_tables([Table(caption, headers, tuple(rows))])


def print_tables(tables: "Iterable[Table]") -> None:
    """Print tables to stdout, wrapped to the width of the terminal."""
    from prunebench.report.output.text_tables import to_terminal

    typer.echo(to_terminal(tables, terminal_width(), bold=_shows_bold()))


def _shows_bold() -> bool:
    """Whether stdout is a terminal that may be written to in bold (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Columns of the terminal; a fixed number if stdout is not one."""
    from prunebench.report.output.text_tables import DEFAULT_WIDTH

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else DEFAULT_WIDTH


def _columns(terminal: TextIO) -> int:
    """Columns of a terminal that a stream writes to, be it another than standard output's."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def print_or_write(content: str, output: Path | None) -> None:
    """Print text, or write it to a file and print the file's path."""
    if output is None:
        typer.echo(content)
        return
    from prunebench.report.output.files import write_file

    typer.echo(str(write_file(output, content + "\n")))


def print_json(content: Any) -> None:
    """Print a value as JSON; what JSON does not know is printed as its ``str``."""
    typer.echo(json.dumps(content, indent=1, default=str))


def print_block(text: str) -> None:
    """Print a text of several lines on stderr, each made printable, with its indentation."""
    for line in text.splitlines():
        typer.echo(" " * (len(line) - len(line.lstrip(" "))) + printable(line), err=True)


def print_message(message: str) -> None:
    """Print a message to the user, as one line on stderr; on a terminal it is wrapped between words."""
    line = printable(message)
    if sys.stderr.isatty():
        line = hanging(line, _columns(sys.stderr))
    typer.echo(line, err=True)
