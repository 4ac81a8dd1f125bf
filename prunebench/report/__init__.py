"""Reports: tables, plots and comparisons, made from records and their arrays alone.

``grouping`` decides which records may share a table or a plot, and ``scenes`` groups them once for all of a report.
``significance`` and ``paired`` have the statistics, ``noise`` their model, ``intervals`` what follows from it.
``tables`` and ``plots`` build format-independent tables and plots, ``sections`` and ``summary`` put a report together,
``output`` writes it as text, HTML, CSV, Parquet, SVG or PDF, and ``compare`` compares two results folders.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "compare.compare": "compare_records",
        "output.html_page": "to_html",
        "output.text_tables": "to_latex to_markdown to_terminal",
        "output.tidy": "measurements",
        "plots.plot": "Plot",
        "sections": "Section all_tables report_sections",
        "tables.table": "Table",
    },
)
