"""Sizes and fonts of papers, by venue."""

from dataclasses import dataclass

SERIF = ("STIXGeneral",)  # like Times, which these venues set; it comes with matplotlib


@dataclass(frozen=True)
class PaperStyle:
    """What a venue's template gives figures.

    Args:
        text_width: of the page's text, inches.
        column_width: of one column, inches; the text's where there is one column.
        font_size: of labels in figures, points: that of captions, or a little less.
    """

    text_width: float
    column_width: float
    font_size: float = 8.0


STYLES = {
    "neurips": PaperStyle(text_width=5.5, column_width=5.5),
    "icml": PaperStyle(text_width=6.75, column_width=3.25),
    "acl": PaperStyle(text_width=16 / 2.54, column_width=7.7 / 2.54, font_size=8.5),
}
