"""Rendering of tables as text: for a terminal, as Markdown, as LaTeX."""

import re
import textwrap
from collections.abc import Callable, Iterable

from tabulate import tabulate

from prunebench.report.tables.table import Table
from prunebench.text import printable

DEFAULT_WIDTH = 100
MIN_COLUMN_WIDTH = 24

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "^": r"\^{}",
    "~": r"\textasciitilde{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    "[": "{[}",  # at the start of a row it would be an argument of the line break before it
    "]": "{]}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "†": r"$^\dagger$",
}


def to_terminal(tables: Iterable[Table], width: int = DEFAULT_WIDTH) -> str:
    """Render tables with aligned columns, each under its caption.

    Args:
        tables: the tables.
        width: columns of the terminal. Captions and text columns are wrapped to fit; columns of numbers are not.
    """

    def formatted(table: Table) -> str:
        caption = textwrap.fill(printable(table.caption), width)
        return f"{caption}\n\n{_tabulate(table, 'simple', printable, _column_widths(table, width))}"

    return "\n\n".join(map(formatted, tables))


def to_markdown(tables: Iterable[Table]) -> str:
    """Render tables as GitHub Markdown, each under its caption in bold."""
    return "\n\n".join(
        f"**{escape_markdown(table.caption)}**\n\n{_tabulate(table, 'pipe', escape_markdown)}" for table in tables
    )


def to_latex(tables: Iterable[Table]) -> str:
    """Render tables as LaTeX ``table`` environments, which need the package booktabs."""
    return "\n\n".join(
        "\n".join(
            (
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{escape_latex(table.caption)}}}",
                _booktabs(table),
                r"\end{table}",
            )
        )
        for table in tables
    )


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it literally, also in a table."""
    text = re.sub(r"([\\`*|\[\]~$])", r"\\\1", printable(text).replace("&", "&amp;").replace("<", "&lt;"))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def escape_latex(text: str) -> str:
    """Escape text so that LaTeX shows it literally."""
    return "".join(_LATEX.get(character, character) for character in printable(text))


def _booktabs(table: Table) -> str:
    """A booktabs table. latex_booktabs of tabulate always escapes; latex_raw does not, but draws other rules."""
    lines = _tabulate(table, "latex_raw", escape_latex).splitlines()
    rules = iter((r"\toprule", r"\midrule", r"\bottomrule"))
    return "\n".join(next(rules) if line == r"\hline" else line for line in lines)


# How an entry is highlighted that is the best among its own kind, and how one that is so over all.
_HIGHLIGHT = {"simple": "*{}", "pipe": "**{}**", "latex_raw": r"\textbf{{{}}}"}
_OVER_ALL = {"simple": "†{}", "pipe": "{} †", "latex_raw": r"{}$^\dagger$"}


def _tabulate(table: Table, style: str, escape: Callable[[str], str], widths: list[int | None] | None = None) -> str:
    def shown(row: int, column: int) -> str:
        entry = escape(table.rows[row][column])
        shown = _HIGHLIGHT[style].format(entry) if (row, column) in table.marked else entry
        return _OVER_ALL[style].format(shown) if (row, column) in table.over_all else shown

    return tabulate(
        [[shown(row, column) for column in range(len(entries))] for row, entries in enumerate(table.rows)],
        headers=[escape(header) for header in table.headers],
        tablefmt=style,
        disable_numparse=True,
        maxcolwidths=widths,
        colalign=["right" if numeric else "left" for numeric in numeric_columns(table)] if table.rows else None,
    )


def _column_widths(table: Table, width: int) -> list[int | None] | None:
    """Maximal column widths: the widest text column shrinks so that the table fits; None if it fits already."""
    columns = list(zip(table.headers, *table.rows, strict=True))
    natural = [max(len(printable(entry)) for entry in column) for column in columns]
    excess = sum(natural) + 2 * (len(natural) - 1) - width
    text_columns = [index for index, numeric in enumerate(numeric_columns(table)) if not numeric]
    if excess <= 0 or not text_columns:
        return None
    widest = max(text_columns, key=lambda index: natural[index])
    return [
        max(natural[index] - excess, MIN_COLUMN_WIDTH) if index == widest else None for index in range(len(natural))
    ]


def numeric_columns(table: Table) -> list[bool]:
    """For each column whether it is numeric: every entry starts with a number or stands for a missing one."""
    amount = re.compile(r"[<+-]?\d+(\.\d+)?(e[+-]?\d+)?(:\d+)?( .*)?|–|-?inf( .*)?|nan( .*)?|failed")
    return [
        all(amount.fullmatch(entry) for entry in column) and any(entry.lstrip("<+-")[:1].isdigit() for entry in column)
        for column in zip(*table.rows, strict=True)
    ]
