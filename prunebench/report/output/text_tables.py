"""Tables as text: for a terminal, Markdown, LaTeX."""

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
    **{sign: "\\" + sign for sign in "&%$#_{}"},
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
}


def to_terminal(tables: Iterable[Table], width: int = DEFAULT_WIDTH) -> str:
    """Aligned columns under a line with the caption.

    Args:
        tables: what to write.
        width: columns of the terminal. Captions and columns of words are wrapped to fit; columns of numbers are not.
    """

    def formatted(table: Table) -> str:
        caption = textwrap.fill(printable(table.caption), width)
        return f"{caption}\n\n{_tabulate(table, 'simple', printable, _column_widths(table, width))}"

    return "\n\n".join(map(formatted, tables))


def to_markdown(tables: Iterable[Table]) -> str:
    """Tables of GitHub's Markdown, the caption in bold above."""
    return "\n\n".join(
        f"**{escape_markdown(table.caption)}**\n\n{_tabulate(table, 'pipe', escape_markdown)}" for table in tables
    )


def to_latex(tables: Iterable[Table]) -> str:
    """``table`` environments; they need the package booktabs."""
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
    """Text that Markdown shows as it is, in a table too."""
    text = re.sub(r"([\\`*|\[\]~$])", r"\\\1", printable(text).replace("&", "&amp;").replace("<", "&lt;"))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def escape_latex(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_LATEX.get(sign, sign) for sign in printable(text))


def _booktabs(table: Table) -> str:
    """tabulate's latex_booktabs escapes and cannot be told not to; its latex_raw has other rules."""
    lines = _tabulate(table, "latex_raw", escape_latex).splitlines()
    rules = iter((r"\toprule", r"\midrule", r"\bottomrule"))
    return "\n".join(next(rules) if line == r"\hline" else line for line in lines)


# How a marked entry looks.
_HIGHLIGHT = {"simple": "*{}", "pipe": "**{}**", "latex_raw": r"\textbf{{{}}}"}


def _tabulate(table: Table, style: str, escape: Callable[[str], str], widths: list[int | None] | None = None) -> str:
    def shown(row: int, column: int) -> str:
        entry = escape(table.rows[row][column])
        return _HIGHLIGHT[style].format(entry) if (row, column) in table.marked else entry

    return tabulate(
        [[shown(row, column) for column in range(len(entries))] for row, entries in enumerate(table.rows)],
        headers=[escape(header) for header in table.headers],
        tablefmt=style,
        disable_numparse=True,
        maxcolwidths=widths,
        colalign=["right" if numeric else "left" for numeric in numeric_columns(table)] if table.rows else None,
    )


def _column_widths(table: Table, width: int) -> list[int | None] | None:
    """Let the widest column of words give way, so that a table fits."""
    columns = list(zip(table.headers, *table.rows, strict=True))
    natural = [max(len(printable(entry)) for entry in column) for column in columns]
    excess = sum(natural) + 2 * (len(natural) - 1) - width
    words = [place for place, numeric in enumerate(numeric_columns(table)) if not numeric]
    if excess <= 0 or not words:
        return None
    widest = max(words, key=lambda place: natural[place])
    return [
        max(natural[place] - excess, MIN_COLUMN_WIDTH) if place == widest else None for place in range(len(natural))
    ]


def numeric_columns(table: Table) -> list[bool]:
    """Columns that hold amounts: every entry starts with a number, or says that there is none."""
    amount = re.compile(r"[<+-]?\d+(\.\d+)?(e[+-]?\d+)?(:\d+)?( .*)?|–|-?inf( .*)?|nan( .*)?|failed")
    return [
        all(amount.fullmatch(entry) for entry in column) and any(entry.lstrip("<+-")[:1].isdigit() for entry in column)
        for column in zip(*table.rows, strict=True)
    ]
