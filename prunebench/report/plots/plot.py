"""A plot before it is drawn."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Args:
        label: what it shows, with the unit.
        scale: ``log`` also where zero is met: it then has a place of its own before the smallest amount.
        ticks: (position, words); by default chosen from the data.
    """

    label: str
    scale: Literal["linear", "log"] = "linear"
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Args:
        label: what the legend calls them; series of one label and look share an entry.
        look: number of the colour, marker and dash; None for the dense models, which are drawn in the colour of text.
        points: (x, y); a y that is not finite is drawn at the upper edge.
        bars: (low, high) of each y; empty for none.
        names: written beside the points; empty for none.
        line, marks: whether the points are joined, and whether they are marked.
        steps: whether the line goes along the axes, as a front does.
        dash: a dash other than the look's own.
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
    """A horizontal line with words on it, as the dense model's value."""

    label: str
    y: float


@dataclass(frozen=True)
class Plot:
    """Everything a plot shows; what draws it decides how.

    Args:
        name: the stem of its file.
        title: words above it, complete enough to stand alone.
        panel: the same among its neighbours in a page: what tells it apart from them.
        x, y: the axes.
        series, rules: what is in it, the first below the later.
    """

    name: str
    title: str
    panel: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    lines: tuple[HorizontalLine, ...] = ()


def legend_entries(plots: Iterable[Plot]) -> list[Series]:
    """One series for each entry of a legend over some plots, in the order of first appearance."""
    entries: dict[tuple[str, int | None, int | None], Series] = {}
    for plot in plots:
        for series in plot.series:
            if series.label:
                entries.setdefault((series.label, series.style, series.dash), replace(series, faint=False))
    return list(entries.values())
