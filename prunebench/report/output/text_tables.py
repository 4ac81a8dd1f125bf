"""Rendering of tables as text: for a terminal, as Markdown, as LaTeX."""

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tabulate import tabulate

from prunebench.report.tables.table import Table
from prunebench.text import printable

DEFAULT_WIDTH = 100
MIN_COLUMN_WIDTH = 24
MOST_KEYS = 4
GAP, HEADER_PADDING = 2, 2  # blanks that tabulate puts between columns, and at least beside a header

_GREEK = (
    "αalpha βbeta γgamma δdelta εvarepsilon ζzeta ηeta θtheta κkappa λlambda μmu νnu ξxi πpi ρrho σsigma τtau "
    "φvarphi χchi ψpsi ωomega ΓGamma ΔDelta ΘTheta ΛLambda ΞXi ΠPi ΣSigma ΦPhi ΨPsi ΩOmega"
)
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
    "·": r"\ensuremath{\cdot}",
    "−": r"\ensuremath{-}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "→": r"\ensuremath{\rightarrow}",
    "…": r"\ldots{}",
    "/": r"/\allowbreak{}",
    **{letter: rf"\ensuremath{{\{name}}}" for letter, name in re.findall(r"(\S)(\w+)", _GREEK)},
}
LATEX_PACKAGES = ("booktabs", "graphicx")


def to_terminal(tables: Iterable[Table], width: int = DEFAULT_WIDTH, *, bold: bool = False) -> str:
    """Render tables with aligned columns, each under its caption.

    Args:
        tables: the tables.
        width: columns of the terminal. Captions and columns of text are wrapped between words to fit. A table that is
            too wide even so is stacked: its columns in several parts, each of which names the rows again.
        bold: show what is marked in bold, too, for a terminal that can.
    """
    style = "bold" if bold else "simple"

    def formatted(table: Table) -> str:
        parts = [_tabulate(part, style, printable, wrapped=True) for part in _fitted(table, width)]
        return "\n\n".join([wrapped(printable(table.caption), width), *parts])

    return "\n\n".join(map(formatted, tables))


def wrapped(words: str, width: int) -> str:
    """Lines of at most ``width`` characters, broken between words: a number or a path stays whole, however long."""
    return textwrap.fill(words, width, break_long_words=False, break_on_hyphens=False)


def to_markdown(tables: Iterable[Table]) -> str:
    """Render tables as GitHub Markdown, each under its caption in bold."""
    return "\n\n".join(
        f"**{escape_markdown(table.caption)}**\n\n{_tabulate(table, 'pipe', escape_markdown)}" for table in tables
    )


def to_latex(tables: Iterable[Table]) -> str:
    """Render tables as LaTeX ``table*`` environments with a label each, which need booktabs and graphicx."""
    labels: Counter[str] = Counter()
    shown = []
    for table in tables:
        words = re.sub(r"[^a-z0-9]+", "-", re.split("[;:]", table.caption)[0].lower()).strip("-")[:50] or "table"
        labels[words] += 1
        label = f"tab:{words}" + (f"-{labels[words]}" if labels[words] > 1 else "")
        shown.append(fitted_latex(_booktabs(table), escape_latex(table.caption), label))
    return "\n\n".join(shown)


def fitted_latex(tabular: str, caption: str, label: str) -> str:
    """A ``table*``, which spans the columns of a page, around a tabular that is made smaller where it is too wide.

    Args:
        tabular: LaTeX.
        caption: LaTeX.
        label: for ``\\ref``.
    """
    return "\n".join(
        (
            r"\begin{table*}[t]",
            r"\centering\small",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            tabular + "%",
            "}",
            r"\end{table*}",
        )
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
_HIGHLIGHT = {"simple": "*{}", "bold": "\x1b[1m*{}\x1b[0m", "pipe": "**{}**", "latex_raw": r"\textbf{{{}}}"}
_OVER_ALL = {"simple": "†{}", "bold": "†{}", "pipe": "{} †", "latex_raw": r"{}$^\dagger$"}


def _tabulate(table: Table, style: str, escape: Callable[[str], str], *, wrapped: bool = False) -> str:
    lines = str.splitlines if wrapped else lambda entry: [entry]

    def shown(row: int, column: int) -> str:
        entry = "\n".join(map(escape, lines(table.rows[row][column])))
        shown = _HIGHLIGHT[style].format(entry) if (row, column) in table.marked else entry
        return _OVER_ALL[style].format(shown) if (row, column) in table.over_all else shown

    return tabulate(
        [[shown(row, column) for column in range(len(entries))] for row, entries in enumerate(table.rows)],
        headers=[escape(header) for header in table.headers],
        tablefmt="simple" if style == "bold" else style,
        disable_numparse=True,
        colalign=["right" if numeric else "left" for numeric in numeric_columns(table)] if table.rows else None,
    )


def _fitted(table: Table, width: int) -> list[Table]:
    """A table as it fits: columns of text wrapped, and if that is not enough, its columns in several parts."""
    plain = [[printable(entry) for entry in row] for row in table.rows]
    columns = [list(column) for column in zip(table.headers, *plain, strict=True)]
    widths = [
        max(len(header) + HEADER_PADDING, *map(len, entries), 0)
        + (2 if any((row, n) in table.marked for row in range(len(plain))) else 0)
        for n, (header, *entries) in enumerate(columns)
    ]
    texts = [number for number, numeric in enumerate(numeric_columns(table)) if not numeric]
    narrowed = set()

    def wrap(number: int, room: int) -> None:
        narrowed.add(number)
        entries = [_wrapped_entry(row[number], room) for row in plain]
        columns[number][1:] = entries
        longest = (len(line) for entry in entries for line in entry.splitlines())
        widths[number] = max(len(columns[number][0]) + HEADER_PADDING, *longest, 0)

    def excess(taken: Sequence[int]) -> int:
        return sum(widths[number] for number in taken) + GAP * (len(taken) - 1) - width

    for number in sorted(texts, key=lambda number: -widths[number]):
        if (more := excess(range(len(widths)))) <= 0:
            break
        wrap(number, max(widths[number] - more, MIN_COLUMN_WIDTH))
    keys = _key_columns(table)
    parts: list[list[int]] = [[]]
    for number in range(keys, len(columns)):
        taken = [*range(keys), *parts[-1], number]
        if parts[-1] and excess(taken) > 0:
            parts.append([])
        parts[-1].append(number)
    for part in parts:  # with other columns gone, there may be room again
        for number in narrowed.intersection(part):
            wrap(number, widths[number] - min(excess([*range(keys), *part]), 0))
    rows = list(zip(*(column[1:] for column in columns), strict=True))
    return [_part(table, rows, [*range(keys), *part]) for part in parts]


def _wrapped_entry(entry: str, width: int) -> str:
    return wrapped(entry, width) if len(entry) > width else entry


def _part(table: Table, rows: Sequence[Sequence[str]], numbers: list[int]) -> Table:
    """Some columns of a table."""
    place = {number: position for position, number in enumerate(numbers)}
    marked, over_all = (
        frozenset((row, place[column]) for row, column in marks if column in place)
        for marks in (table.marked, table.over_all)
    )
    entries = tuple(tuple(row[number] for number in numbers) for row in rows)
    return Table(table.caption, tuple(table.headers[number] for number in numbers), entries, marked, over_all)


def _key_columns(table: Table) -> int:
    """How many columns on the left it takes to tell all rows apart; one where none do."""
    for count in range(1, min(len(table.headers), MOST_KEYS) + 1):
        if len({row[:count] for row in table.rows}) == len(table.rows):
            return count
    return 1


def numeric_columns(table: Table) -> list[bool]:
    """For each column whether it is numeric: every entry starts with a number or stands for a missing one."""
    amount = re.compile(r"[<+-]?\d+(\.\d+)?(e[+-]?\d+)?(:\d+)?( .*)?|–|-?inf( .*)?|nan( .*)?|failed")
    return [
        all(amount.fullmatch(entry) for entry in column) and any(entry.lstrip("<+-")[:1].isdigit() for entry in column)
        for column in zip(*table.rows, strict=True)
    ]
