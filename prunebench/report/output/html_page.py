"""The report as one self-contained HTML file: it loads nothing from elsewhere, and all names are escaped."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, method_order, sparsity_order
from prunebench.report.output.one_file import render, shared
from prunebench.report.output.text_tables import numeric_columns
from prunebench.report.plots import matplotlib_svg as draw
from prunebench.report.plots.axes import alike
from prunebench.report.plots.plot import legend_entries
from prunebench.report.sections import Section, report_sections
from prunebench.report.tables.scores import scores
from prunebench.report.tables.table import Table

FOLDED = ("convergence", "masks", "layers", "provenance", "cells")  # sections that are read by few
SHADES = 10  # of a table's heat, as classes heat-0 to heat-9
WRAP_LENGTH = 40  # characters; longer entries are wrapped


def to_html(
    records: Sequence[Record], title: str, order: Sequence[str] = (), array_store: ArrayStore | None = None
) -> str:
    """The report as HTML, with all plots and tables; the same records give the same bytes.

    Args:
        records: the records to report on.
        title: the page's heading.
        order: methods in the order to show them; the rest follow by name.
        array_store: the arrays of the records; without them nothing is marked as best.
    """
    return render(
        shared("report.html.j2"),
        _colours() + shared("report.css"),
        shared("report.js"),
        title=text.printable(title),
        sections=[_section_context(section) for section in report_sections(records, order, array_store)],
        tiles=_tiles(records),
        filters=_filters(records),
    )


def _section_context(section: Section) -> dict[str, Any]:
    name = section.name
    groups = {id(plot): group for group in alike(section.plots) for plot in group}
    return {
        "name": name,
        "title": section.title,
        "folded": name in FOLDED,
        "explanation": section.explanation,
        "paragraphs": section.paragraphs,
        "plots": [
            (plot.panel, Markup(draw.to_svg(plot, f"{name}-{number}", groups[id(plot)])))
            for number, plot in enumerate(section.plots)
        ],
        "legend": [
            (series.label, Markup(draw.to_legend_sample(series, f"{name}-legend-{number}")))
            for number, series in enumerate(legend_entries(section.plots))
        ],
        "tables": [_table_context(table) for table in section.tables],
    }


def _table_context(table: Table) -> dict[str, Any]:
    """A table for the template, with a sort key for each entry."""
    numeric = numeric_columns(table)
    return {
        "caption": text.printable(table.caption),
        "headers": list(zip(table.headers, numeric, strict=True)),
        "rows": [
            [
                {
                    "text": text.printable(entry),
                    "sort": _javascript_number(text.sort_key(entry)) if numeric[column] else None,
                    "kind": _classes(entry, numeric=numeric[column], heat=table.heat.get((row, column))),
                    "marked": (row, column) in table.marked,
                    "over_all": (row, column) in table.over_all,
                }
                for column, entry in enumerate(entries)
            ]
            for row, entries in enumerate(table.rows)
        ],
    }


def _classes(entry: str, *, numeric: bool, heat: float | None) -> str:
    """The classes of an entry in the page's style: how it is aligned, and the nearest of its shades."""
    kind = "number" if numeric else "long" if len(entry) > WRAP_LENGTH else ""
    return kind if heat is None else f"{kind} heat-{min(int(heat * SHADES), SHADES - 1)}".strip()


def _javascript_number(value: float | None) -> str | None:
    """A number as JavaScript parses it."""
    return "Infinity" if value == math.inf else None if value is None else str(value)


def _tiles(records: Sequence[Record]) -> list[tuple[str, str]]:
    cells = [record.cell for record in records]
    failed = sum(record.status == "failed" for record in records)
    counts = (len(cells), "cell"), (len({c.model for c in cells}), "model"), (len({c.method for c in cells}), "method")
    return [(str(number), what if number == 1 else f"{what}s") for number, what in counts] + [(str(failed), "failed")]


def _filters(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """What a reader may filter by, with the choices."""
    pruned = [record for record in records if record.cell.sparsity != DENSE]
    columns = {column.task for record in records for column in scores(record)}
    choices = {
        "model": list(dict.fromkeys(record.cell.model for record in records)),
        "method": method_order(pruned),
        "sparsity": sparsity_order(record.cell.sparsity for record in pruned),
        "task": sorted(columns),
    }
    return [(name, [text.printable(choice) for choice in found]) for name, found in choices.items()]


def _colours() -> str:
    """CSS variables for the colours of series, for light and dark pages."""
    light, dark = (
        "".join(f"--series-{number}: {colour}; " for number, colour in enumerate(colours))
        for colours in (draw.COLOURS, draw.DARK_COLOURS)
    )
    shades = "".join(
        f".heat-{shade} {{ background: color-mix(in srgb, var(--heat) {6 * shade + 2} %, var(--card)); }}\n"
        for shade in range(SHADES)
    ).replace(" %", "%")
    return f":root {{ {light}}}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n{shades}"
