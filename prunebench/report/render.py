"""Tables as text: for a terminal, Markdown, LaTeX."""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from prunebench.report.table import Table
from prunebench.report.text import plain

# In a terminal: the widest caption, and the widest column (an error's message).
CAPTION = 100
WRAP = 72

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


def to_terminal(tables: Iterable[Table]) -> str:
    """Aligned columns under a line with the caption."""
    return "\n\n".join(
        f"{textwrap.fill(plain(table.caption), CAPTION)}\n\n{_tabulate(table, 'simple', plain, wrap=WRAP)}"
        for table in tables
    )


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
    text = re.sub(r"([\\`*|\[\]~$])", r"\\\1", plain(text).replace("&", "&amp;").replace("<", "&lt;"))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def escape_latex(text: str) -> str:
    """Text that LaTeX shows as it is."""
    return "".join(_LATEX.get(sign, sign) for sign in plain(text))


def _booktabs(table: Table) -> str:
    """tabulate's latex_booktabs escapes and cannot be told not to; its latex_raw has other rules."""
    lines = _tabulate(table, "latex_raw", escape_latex).splitlines()
    rules = iter((r"\toprule", r"\midrule", r"\bottomrule"))
    return "\n".join(next(rules) if line == r"\hline" else line for line in lines)


def _tabulate(table: Table, style: str, escape: Callable[[str], str], wrap: int | None = None) -> str:
    def escaped(row: Sequence[str]) -> list[str]:
        return [escape(entry) for entry in row]

    return tabulate(
        [escaped(row) for row in table.rows],
        headers=escaped(table.headers),
        tablefmt=style,
        disable_numparse=True,
        maxcolwidths=wrap,
        colalign=["right" if numeric else "left" for numeric in _numeric(table)] if table.rows else None,
    )


def _numeric(table: Table) -> list[bool]:
    """Columns that hold amounts: every entry starts with a digit, or says that there is none."""
    return [
        all(re.match(r"-?\d|–|inf|nan|failed", entry) for entry in column)
        and any(entry[:1].isdigit() for entry in column)
        for column in zip(*table.rows, strict=True)
    ]
