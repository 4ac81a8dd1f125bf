"""Reports: tables, plots and comparisons, made from records and their arrays alone.

``grouping`` decides which records may share a table or a plot, ``significance`` and ``paired`` have the statistics,
``tables`` and ``plots`` build format-independent tables and plots, ``sections`` and ``summary`` put a report together,
``output`` writes it as text, HTML, CSV, Parquet, SVG or PDF, and ``compare`` compares two results folders.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunebench.report.compare.compare import compare_records
    from prunebench.report.output.html_page import to_html
    from prunebench.report.output.text_tables import to_latex, to_markdown, to_terminal
    from prunebench.report.output.tidy import measurements
    from prunebench.report.plots.plot import Plot
    from prunebench.report.sections import Section, all_tables, report_sections
    from prunebench.report.tables.table import Table

__all__ = [
    "Plot",
    "Section",
    "Table",
    "all_tables",
    "compare_records",
    "measurements",
    "report_sections",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_terminal",
]

_MODULES = {
    "Plot": "plots.plot",
    "Section": "sections",
    "Table": "tables.table",
    "all_tables": "sections",
    "compare_records": "compare.compare",
    "measurements": "output.tidy",
    "report_sections": "sections",
    "to_html": "output.html_page",
    "to_latex": "output.text_tables",
    "to_markdown": "output.text_tables",
    "to_terminal": "output.text_tables",
}


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` at its first use (PEP 562), so that one table does not load scipy and matplotlib."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
