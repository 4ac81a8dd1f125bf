"""Output formats of a report: text tables, one HTML page, files of measurements and plots, and model cards."""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.report.output.files import write_html, write_plots
    from prunebench.report.output.html_page import to_html
    from prunebench.report.output.model_card import write_cards
    from prunebench.report.output.text_tables import to_latex, to_markdown, to_terminal
    from prunebench.report.output.tidy import measurements, to_csv, write_parquet

__all__ = [
    "measurements",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_terminal",
    "write_cards",
    "write_html",
    "write_parquet",
    "write_plots",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "files": "write_html write_plots",
        "html_page": "to_html",
        "model_card": "write_cards",
        "text_tables": "to_latex to_markdown to_terminal",
        "tidy": "measurements to_csv write_parquet",
    },
)
