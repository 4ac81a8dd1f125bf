"""Output formats of a report: text tables, one HTML page, files of measurements and plots, and model cards."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_MODULES = {
    "measurements": "tidy",
    "to_csv": "tidy",
    "to_html": "html_page",
    "to_latex": "text_tables",
    "to_markdown": "text_tables",
    "to_terminal": "text_tables",
    "write_cards": "model_card",
    "write_html": "files",
    "write_parquet": "tidy",
    "write_plots": "files",
}


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` at its first use (PEP 562), so that importing one module does not load all."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
