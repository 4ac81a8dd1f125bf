"""The format-independent description of a plot, before it is drawn."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Args:
        label: the quantity, with its unit.
        scale: ``linear`` or ``log``; on a ``log`` axis zero gets a position of its own before the smallest value.
        ticks: (position, label) pairs; by default chosen from the data.
        cut: where the axis ends though values go on: those are drawn at its end, with their number; None for no cut.
    """

    label: str
    scale: Literal["linear", "log"] = "linear"
    ticks: tuple[tuple[float, str], ...] = ()
    cut: float | None = None

    def beyond(self, value: float) -> bool:
        """Whether a value has no place on the axis."""
        return not math.isfinite(value) or (self.cut is not None and value > self.cut)


@dataclass(frozen=True)
class Series:
    """Points that are drawn in one style, possibly joined by a line.

    Args:
        label: name in the legend; series of one label and style share an entry.
        style: number of the colour and marker; None for the dense models, which are drawn in the text colour.
        points: (x, y); a y that is not finite, or beyond its axis' cut, is drawn at the upper edge.
        bars: (low, high) of each y, or of each x where the plot is ``sideways``; empty for none.
        names: written beside the points; empty for none.
        line, markers: whether the points are joined by a line, and whether they have markers.
        steps: whether the line has steps, as a Pareto front does.
        dash: number of a dash; None for a line without gaps.
        faint: drawn in the background.
    """

    label: str
    style: int | None
    points: tuple[Point, ...]
    bars: tuple[Point, ...] = ()
    names: tuple[str, ...] = ()
    line: bool = True
    markers: bool = True
    steps: bool = False
    dash: int | None = None
    faint: bool = False


@dataclass(frozen=True)
class HorizontalLine:
    """A horizontal line with a label, such as the dense model's value."""

    label: str
    y: float


@dataclass(frozen=True)
class Plot:
    """Everything that a plot shows.

    Args:
        name: stem of its file name.
        title: title, understandable on its own.
        panel: short title beside other plots of a page: what distinguishes it from them.
        x, y: the axes.
        series, lines: its content; later series are drawn above earlier ones.
        sideways: whether the measure is x, as in a plot of dots with a name for each row.
    """

    name: str
    title: str
    panel: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    lines: tuple[HorizontalLine, ...] = ()
    sideways: bool = False


def legend_entries(plots: Iterable[Plot]) -> list[Series]:
    """One series for each entry of a legend shared by several plots, in the order of first appearance."""
    entries: dict[tuple[str, int | None, int | None], Series] = {}
    for plot in plots:
        for series in plot.series:
            if series.label:
                entries.setdefault((series.label, series.style, series.dash), replace(series, faint=False))
    return list(entries.values())
