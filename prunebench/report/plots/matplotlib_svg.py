"""Drawing of plots with matplotlib: SVG elements for HTML pages, SVG and PDF files for papers.

The same plot gives the same bytes: no dates, and identifiers from the content alone.
"""

import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from prunebench import text
from prunebench.report.grouping import group_by
from prunebench.report.plots.plot import Axis, Plot, Point, Series, legend_entries
from prunebench.text import printable

SIZE = (4.6, 3.2)  # inches; about what a phone is wide

# Of names at the ends of lines: how many, of how many characters, the share of a plot's height that one takes, and of
# its width that an end may be short of.
MOST_LABELS, LONGEST_LABEL, LABEL_HEIGHT, BESIDE = 8, 24, 0.065, 0.06
NUMBER_WIDTH = 0.16  # the share of a plot's width that the number beside a value at its edge takes

INK, LINE, PAPER = "#1c2024", "#d3d8de", "#fefefe"
# Chosen by search so that any two differ by 25 (CIE 1976) or more, also as people with protanopia, deuteranopia or
# tritanopia see them (Machado et al., 2009), each with a contrast of 3 or more to white.
COLOURS = ("#222288", "#de7718", "#0e8eff", "#ac003c", "#84928b", "#9a62a8", "#944b00", "#511c51")
# The same for a dark page.
DARK_COLOURS = ("#7377f5", "#fdc43c", "#0af0ff", "#e15459", "#c2c4ae", "#a2779c", "#bc7300", "#b3fa92")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (8, 2)))

# CSS variables that a page uses instead of the colours above.
VARIABLES = {INK: "currentColor", LINE: "var(--line)", PAPER: "var(--card)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(COLOURS)
}

PLOT_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "prunebench",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.labelsize": 10.5,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "path.simplify": False,
}


def to_svg(plot: Plot, prefix: str, alike: Sequence[Plot] = ()) -> str:
    """Draw a plot as an ``<svg>`` element, without title or legend, for a page that defines ``VARIABLES``.

    Args:
        plot: the plot.
        prefix: prefix of the element's identifiers, unique in the page.
        alike: plots whose axes have the same limits; by default none.
    """
    with _style_context():
        return _with_values(_page_element(_figure(plot, alike), prefix, plot.title), plot)


def to_legend_sample(series: Series, prefix: str) -> str:
    """Draw a sample of a series' line and marker as an ``<svg>`` element, for the legend of a page."""
    with _style_context():
        figure = Figure(figsize=(0.42, 0.16))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.set(xlim=(0, 1), ylim=(-1, 1))
        middle = Line2D([0.5], [0.0], **line_style(series, markers=True, line=False))
        axes.add_line(Line2D([0.0, 1.0], [0.0, 0.0], **line_style(series, markers=False, line=series.line)))
        if series.markers:
            axes.add_line(middle)
        return _page_element(figure, prefix, "")


def to_file(plot: Plot, style: Literal["svg", "pdf"]) -> bytes:
    """Draw a plot as a file with title and legend, on a transparent background, for light paper."""
    with _style_context():
        figure = _figure(plot)
        figure.axes[0].set_title(printable(plot.title), loc="left", fontsize=10, wrap=True)
        entries = legend_entries([plot])
        if len(entries) > 1:
            handles = [Line2D([], [], label=printable(entry.label), **line_style(entry)) for entry in entries]
            for columns in range(min(4, len(entries)), 0, -1):
                figure.set_figheight(SIZE[1] + 0.25 + 0.2 * math.ceil(len(entries) / columns))
                box = figure.legend(handles=handles, loc="outside lower left", ncols=columns)
                figure.draw_without_rendering()
                if columns == 1 or box.get_window_extent().width <= figure.bbox.width:
                    break
                box.remove()
        file = io.BytesIO()
        undated = {"Date": None} if style == "svg" else {"CreationDate": None}
        figure.savefig(file, format=style, metadata=undated)
        return file.getvalue()


def _style_context() -> AbstractContextManager[None]:
    return mpl.rc_context(PLOT_STYLE)  # type: ignore[arg-type]


def _page_element(figure: Figure, prefix: str, title: str) -> str:
    """A figure as an element of a page: colours become variables, identifiers unique, metadata is removed."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    content = file.getvalue()
    content = content[content.index("<svg") :]
    content = re.sub(
        r"<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>|<!--.*?-->", "", content, flags=re.S
    )
    content = re.sub(r"<[^>]*>", lambda tag: _adapt_tag(tag[0], prefix), content)
    attributes = f'role="img" aria-label="{html.escape(printable(title))}"' if title else 'aria-hidden="true"'
    return re.sub(r"\s*\n\s*", "\n", content.replace("<svg", f"<svg {attributes}", 1)).strip()


def _with_values(element: str, plot: Plot) -> str:
    """Name the series of each group, and give each marker its exact values as a title, which browsers show."""
    before, *groups = re.split(r'(?=<g data-part=")', element)
    found = [before]
    for group in groups:
        tag, _, rest = group.partition(">")
        number, which = tag.split('"')[1].split("-")
        series = plot.series[int(number)]
        shown = [series.points[int(which)]] if which.isdigit() else []
        if which == "inside":
            shown = _within(plot, series.points)
        if series.markers:
            titles = iter([html.escape(printable(_value_text(plot, series, point))) for point in shown])
            rest = re.sub(
                r"(<use [^>]*?)\s*/>",
                lambda marker, titles=titles: f"{marker[1]}><title>{next(titles)}</title></use>",
                rest,
                count=len(shown),
            )
        found.append(f'<g data-series="{html.escape(printable(series.label))}">{rest}')
    return "".join(found)


def _value_text(plot: Plot, series: Series, point: Point) -> str:
    """What a reader sees at a point: "elsa: 90, 1.36 (1.31 to 1.42)"."""
    x, y = point
    across = next((label for position, label in plot.x.ticks if position == x), tick_text(x))
    if plot.sideways:
        return f"{series.label}: {x:.4g}"
    bar = dict(zip(series.points, series.bars, strict=False)).get(point, (math.nan, math.nan))
    interval = f" ({bar[0]:.4g} to {bar[1]:.4g})" if all(map(math.isfinite, bar)) else ""
    return f"{series.label}: {across}, {y:.4g}{interval}"


def _adapt_tag(tag: str, prefix: str) -> str:
    """Adapt one tag of matplotlib's SVG to a page."""
    for pattern, replacement in (
        (r'^<g id="series-(\d+-\w+)"', r'<g data-part="\1"'),
        (r'^<g id="[^"]*"', "<g"),
        (r'\s+xmlns(:\w+)?="[^"]*"', ""),
        (r'\bid="', f'id="{prefix}-'),
        (r"url\(#", f"url(#{prefix}-"),
        (r'xlink:href="#', f'href="#{prefix}-'),
        (r"(font(?:-family)?: [^;\"]*?)sans-serif", r"\1var(--font)"),
    ):
        tag = re.sub(pattern, replacement, tag)
    return re.sub(r"#[0-9a-f]{6}\b", lambda colour: VARIABLES.get(colour[0], colour[0]), tag)


def _figure(plot: Plot, alike: Sequence[Plot] = ()) -> Figure:
    rows = len(plot.y.ticks) if plot.sideways else 0
    figure = Figure(figsize=(SIZE[0], max(1.2, 0.6 + 0.24 * rows)) if rows else SIZE, layout="constrained")
    draw_plot(figure.add_subplot(), plot, alike or [plot])
    return figure


def draw_plot(axes: Axes, plot: Plot, alike: Sequence[Plot]) -> None:
    """Draw a plot.

    Args:
        axes: what to draw on.
        plot: the plot.
        alike: plots whose axes are to have the same limits, itself among them.
    """
    zero = _set_limits(axes, plot, alike)
    if plot.sideways:
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
    taken: list[tuple[float, int]] = []
    for number in range(len(plot.series)):
        _draw_series(axes, plot, number, zero, taken)
    _draw_labels(axes, plot)
    axes.set(xlabel=printable(plot.x.label), ylabel=printable(plot.y.label))


def _set_limits(axes: Axes, plot: Plot, alike: Sequence[Plot]) -> float:
    """Set both axes so that they hold the values of all plots; returns where x = 0 is drawn."""
    up, across = list[float](), list[float]()
    for other in alike:
        bars = [end for series in other.series for bar in series.bars for end in bar]
        if other is plot or not plot.sideways:  # the rows of a plot of dots are its own
            up += [y for series in other.series for _, y in series.points] + [rule.y for rule in other.lines]
        across += [x for series in other.series for x, _ in series.points]
        (across if other.sideways else up).extend(bars)
    _set_scale(axes, "y", plot.y, up)
    return _set_scale(axes, "x", plot.x, across)


def _set_scale(axes: Axes, which: Literal["x", "y"], requested: Axis, values: Iterable[float]) -> float:
    """Set scale, limits and ticks of one axis.

    Returns:
        The position at which a value of zero is drawn.
    """
    finite = [value if requested.cut is None else min(value, requested.cut) for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    log = requested.scale == "log" and bool(positive)
    zero = 0.0
    ticks = tuple((position, printable(label)) for position, label in requested.ticks)
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if log:
        low, high = min(positive), max(positive)
        ticks = ticks or tuple((tick, tick_text(tick)) for tick in log_ticks(low, high))
        if 0.0 in finite:
            zero = low / max(4.0, (high / low) ** 0.2)
            ticks = ((zero, "0"), *(tick for tick in ticks if tick[0] > zero * 1.5))
            low = zero
        margin = max((high / low) ** 0.06, 1.06)
        low, high = low / margin, high * margin
    else:
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 0.5
        low, high = low - margin, high + margin
        ticks = ticks or tuple((tick, tick_text(tick)) for tick in MaxNLocator(5).tick_values(low, high))
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log" if log else "linear", f"{which}lim": (low, high)})
    shown = [tick for tick in ticks if low <= tick[0] <= high]
    if which == "x" and not requested.ticks:
        shown = _spaced_ticks(shown, low, high, log=log)
    axis.set_major_locator(FixedLocator([position for position, _ in shown]))
    axis.set_major_formatter(FixedFormatter([label for _, label in shown]))
    axis.set_minor_locator(NullLocator())
    return zero


def _spaced_ticks(ticks: Sequence[tuple[float, str]], low: float, high: float, *, log: bool) -> list[tuple[float, str]]:
    """Leave out ticks whose labels would overlap."""
    measure = math.log if log else float
    shown: list[tuple[float, str]] = []
    for tick in ticks:
        if not shown or measure(tick[0]) - measure(shown[-1][0]) > 0.15 * (measure(high) - measure(low)):
            shown.append(tick)
    return shown


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range as ticks of a logarithmic axis: enough to read it, few enough not to overlap."""
    if high / low < 6:
        return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if tick > 0]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**exponent for exponent in exponents for digit in digits]
        within = [tick for tick in ticks if low / 1.06 <= tick <= high * 1.06]
        if len(within) <= 6:
            return within
    return within[:: math.ceil(len(within) / 6)]


def tick_text(value: float) -> str:
    """Format a number at an axis: 0.05, 200, 20 k, 3 M, 1e15."""
    if abs(value) < 10_000:
        return f"{value:.6g}"
    return text.count(value) if 0 < value < 1e12 else f"{value:.0e}"


def line_style(series: Series, *, markers: bool | None = None, line: bool | None = None) -> dict[str, Any]:
    """matplotlib's keyword arguments for the style of a series."""
    number = series.style
    marked, joined = series.markers if markers is None else markers, series.line if line is None else line
    dash = series.dash or 0
    return {
        "color": INK if number is None else COLOURS[number % len(COLOURS)],
        "marker": ("*" if number is None else MARKERS[number % len(MARKERS)]) if marked else "",
        "markersize": 9.0 if number is None else 5.5 if joined else 7.0,
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.6,
        "linestyle": DASHES[dash % len(DASHES)] if joined else "",
        "linewidth": 1.5,
        "alpha": 0.4 if series.faint else None,
    }


def _draw_series(axes: Axes, plot: Plot, number: int, zero: float, taken: list[tuple[float, int]]) -> None:
    """Draw one series; the identifiers of its parts are read again by ``_with_values``.

    Args:
        axes, plot: where and what.
        number: of the series; later ones are above earlier ones.
        zero: where x = 0 is drawn.
        taken: of each value that stands at the upper edge already, its place from left to right (0 to 1) and its row.
    """
    series, depth = plot.series[number], 3 + number
    points = [(x if x or axes.get_xscale() == "linear" else zero, y) for x, y in series.points]
    finite = [point for point in points if all(map(math.isfinite, point))]
    style = line_style(series)
    if finite and style["linestyle"]:  # a line to a value beyond the cut leaves by the upper edge
        steps = "steps-post" if series.steps else "default"
        lines = {**style, "marker": "", "gid": f"series-{number}-line", "zorder": depth}
        axes.plot(*zip(*finite, strict=True), drawstyle=steps, **lines)
    off = {**style, "linestyle": "", "zorder": depth}
    if series.markers and (inside := _within(plot, points)):
        axes.plot(*zip(*inside, strict=True), **off, gid=f"series-{number}-inside")
    bar = {"color": style["color"], "linewidth": 1.0, "alpha": style["alpha"], "gid": f"series-{number}-bar"}
    for (x, y), (low, high) in zip(points, series.bars, strict=False):
        if math.isfinite(low) and math.isfinite(high) and not (plot.y.beyond(y) or plot.x.beyond(x)):
            ends = ([low, high], [y, y]) if plot.sideways else ([x, x], [low, high])
            axes.plot(*ends, zorder=depth, **bar)
    off["clip_on"] = False
    for place, (x, y) in enumerate(points):
        off["gid"] = f"series-{number}-{place}"
        if plot.y.beyond(y):
            across = _fraction(axes, (x, 1.0))[0]
            beside = {row for there, row in taken if abs(there - across) < NUMBER_WIDTH}
            taken.append((across, row := next(row for row in count() if row not in beside)))
            height = 0.97 - 0.075 * row
            edge = axes.get_xaxis_transform()
            axes.plot([x], [height], transform=edge, **{**off, "marker": "^"})
            offset = _label_offset(left=across > 0.3, up=False)
            axes.annotate(_beyond_text(y), (x, height), xycoords=edge, gid=off["gid"], **offset)
        elif plot.sideways and plot.x.beyond(x):
            edge = axes.get_yaxis_transform()
            axes.plot([0.97], [y], transform=edge, **{**off, "marker": ">"})
            offset = {**_label_offset(left=True, up=False), "xytext": (-6, 0), "va": "center"}
            axes.annotate(_beyond_text(x), (0.97, y), xycoords=edge, gid=off["gid"], **offset)
    for place, (point, name) in enumerate(zip(points, series.names, strict=False)):
        if name and math.isfinite(point[1]):
            left = _fraction(axes, point)[0] > 0.6
            axes.annotate(printable(name), point, zorder=depth, **_label_offset(left=left, up=place % 2 == 0))


def _within(plot: Plot, points: Iterable[Point]) -> list[Point]:
    """The points that have a place on both axes."""
    return [(x, y) for x, y in points if math.isfinite(x) and not (plot.x.beyond(x) or plot.y.beyond(y))]


def _beyond_text(value: float) -> str:
    """The number that is written for a value at the edge: 10.5, 1174, inf."""
    if not math.isfinite(value):
        return text.number(value)
    return f"{value:.1f}" if value < 100 else text.count(value)


def _fraction(axes: Axes, point: Point) -> tuple[float, float]:
    """The position of a point as fractions of the axes' width and height."""
    across, up = axes.transLimits.transform(axes.transScale.transform(point))
    return float(across), float(up)


def _beside_size() -> float:
    """Points of what is written beside values: less than what is written at axes."""
    return float(mpl.rcParams["font.size"]) - 1.5


def _label_offset(*, left: bool, up: bool) -> dict[str, Any]:
    """Keyword arguments that place a label next to a point."""
    return {
        "xytext": (-5 if left else 5, 4 if up else -4),
        "textcoords": "offset points",
        "fontsize": _beside_size(),
        "ha": "right" if left else "left",
        "va": "baseline" if up else "top",
    }


def _draw_labels(axes: Axes, plot: Plot) -> None:
    """Draw horizontal lines, and to the right of the axes what they and the ends of the other lines are called.

    Labels that would overlap are moved up. Where lines are many, or end at different places, the legend names them.
    """
    rules = [rule for rule in plot.lines if not plot.y.beyond(rule.y)]
    for rule in rules:
        axes.axhline(rule.y, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=2)
    labels = [(rule.y, rule.label, INK, "") for rule in rules] + _line_ends(plot)
    height = -math.inf
    for y, label, colour, part in sorted(labels):
        height = max(_fraction(axes, (axes.get_xlim()[0], y))[1], height + LABEL_HEIGHT)
        axes.annotate(
            printable(label), (1, height), xycoords="axes fraction", xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=_beside_size(), color=colour, annotation_clip=False, gid=part or None,
        )  # fmt: skip


def _line_ends(plot: Plot) -> list[tuple[float, str, str, str]]:
    """Height, name, colour and identifier of the lines that reach the right end of a plot."""
    lines = {
        number: each
        for number, each in enumerate(plot.series)
        if each.line and each.label and not (plot.sideways or each.steps or any(each.names))
    }
    ends = [(inside[-1], n, each) for n, each in lines.items() if (inside := _within(plot, each.points))]
    across = [x for each in plot.series for x, _ in each.points] or [0.0]
    right = max(across) - BESIDE * (max(across) - min(across))  # methods may stand slightly apart
    reaching = [
        (y, each.label, str(line_style(each)["color"]), f"series-{number}-end")
        for (x, y), number, each in ends
        if x >= right
    ]
    alike = group_by(sorted(reaching), lambda end: end[1:3])  # lines of several seeds have one name, in their middle
    fits = len(lines) <= MOST_LABELS and all(len(label) <= LONGEST_LABEL for _, label, _, _ in reaching)
    return [ends[len(ends) // 2] for ends in alike.values()] if fits else []
