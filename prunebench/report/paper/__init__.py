"""What a paper takes from records: plots in a venue's sizes, one LaTeX table, references, a methods paragraph."""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.report.paper.files import write_paper
    from prunebench.report.paper.styles import STYLES, PaperStyle

__all__ = ["STYLES", "PaperStyle", "write_paper"]

__getattr__, __dir__ = lazy_names(__name__, {"files": "write_paper", "styles": "STYLES PaperStyle"})
