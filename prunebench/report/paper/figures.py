"""Plots for papers: in a venue's widths and fonts, without titles, one by one or as panels of one figure."""

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prunebench.report.paper.styles import SERIF, PaperStyle
from prunebench.report.plots.axes import alike, without_unit
from prunebench.report.plots.matplotlib_svg import PLOT_STYLE, draw_plot, line_style
from prunebench.report.plots.plot import Plot, legend_entries
from prunebench.text import printable

PANEL_WIDTH = 1.8
"""Inches: at least so wide is one of several panels."""
HEIGHT, ROW_HEIGHT = 0.72, 0.17
"""Of a panel, as a share of its width; of a row of a legend and of a plot of dots, inches."""


def figures(plots: Sequence[Plot], style: PaperStyle, form: Literal["svg", "pdf"], *, apart: bool) -> dict[str, bytes]:
    """Draw plots for a paper.

    Args:
        plots: of one section of a report.
        style: the venue's.
        form: of the files.
        apart: each in a file of its own, one column wide; else those with the same axes are panels of one figure, as
            wide as the text, with common limits and one legend.

    Returns:
        Files by the stems of their names.
    """
    if apart:
        return {plot.name: _drawn([plot], style.column_width, style, form) for plot in plots}
    drawn = {}
    for group in alike(plots):
        panels = [replace(plot, x=without_unit(plot.x), y=without_unit(plot.y)) for plot in group]
        several = len(panels) > 1
        name = f"{panels[0].name}-and-others" if several else panels[0].name
        drawn[name] = _drawn(panels, style.text_width if several else style.column_width, style, form)
    return drawn


def _drawn(plots: Sequence[Plot], width: float, style: PaperStyle, form: Literal["svg", "pdf"]) -> bytes:
    columns = min(len(plots), max(1, int(width / PANEL_WIDTH)))
    rows = math.ceil(len(plots) / columns)
    dots = max(len(plot.y.ticks) for plot in plots) if plots[0].sideways else 0
    panel = ROW_HEIGHT * dots + 0.5 if dots else HEIGHT * min(width / columns, 3.3)
    settings: dict[str, Any] = {**PLOT_STYLE, **_fonts(style)}
    with mpl.rc_context(settings):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, rows * panel), layout="constrained")
        for number, plot in enumerate(plots):
            axes = figure.add_subplot(rows, columns, number + 1)
            draw_plot(axes, plot, plots)
            if len(plots) > 1:
                axes.set_title(printable(plot.panel), fontsize=style.font_size)
                if number % columns and not plot.sideways:
                    axes.set_ylabel("")
                    axes.tick_params(labelleft=False)
                if number + columns < len(plots):
                    axes.set_xlabel("")
        _add_legend(figure, plots, rows * panel)
        file = io.BytesIO()
        figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else {"CreationDate": None})
        return file.getvalue()


def _add_legend(figure: Figure, plots: Sequence[Plot], height: float) -> None:
    """A legend below all panels, in as many columns as fit."""
    entries = legend_entries(plots)
    if len(entries) < 2:
        return
    handles = [Line2D([], [], label=printable(entry.label), **line_style(entry)) for entry in entries]
    for columns in range(min(8, len(entries)), 0, -1):
        figure.set_figheight(height + 0.05 + ROW_HEIGHT * math.ceil(len(entries) / columns))
        box = figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.2)
        figure.draw_without_rendering()
        if columns == 1 or box.get_window_extent().width <= figure.bbox.width:
            return
        box.remove()


def _fonts(style: PaperStyle) -> dict[str, Any]:
    return {
        "font.family": list(SERIF),
        "font.size": style.font_size,
        "axes.labelsize": style.font_size,
        "xtick.labelsize": style.font_size,
        "ytick.labelsize": style.font_size,
        "legend.fontsize": style.font_size,
        "lines.markersize": 4.0,
    }
