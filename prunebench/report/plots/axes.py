"""Helpers for plots: the sparsity axis, titles, file names, and dropping of empty plots."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prunebench import text
from prunebench.report.grouping import group_by, sparsity_order
from prunebench.report.plots.plot import Axis, Plot


def file_stem(*words: str) -> str:
    """The stem of a file name, from words."""
    stem = "".join(
        character if character.isalnum() or character == "." else "-"
        for character in "--".join(map(text.printable, words))
    )
    while "---" in stem:
        stem = stem.replace("---", "--")
    return stem.strip("-.")[:120]


def join_title(*parts: str) -> str:
    """Join the non-empty parts of a title."""
    return ", ".join(text.printable(part) for part in parts if part)


def ratio_of(sparsity: str) -> float:
    """The fraction of zeros of a ratio sparsity; NaN for an n:m pattern."""
    try:
        return float(sparsity)
    except ValueError:
        return math.nan


def sparsity_axis(sparsities: Sequence[str]) -> tuple[Axis, dict[str, float]]:
    """An axis for fractions of zeros, with a separate position to their right for each n:m pattern.

    Returns:
        The axis, and the position of each sparsity on it (percent of zeros for fractions).
    """
    ordered = sparsity_order(sparsities)
    positions = {sparsity: 100 * ratio_of(sparsity) for sparsity in ordered if math.isfinite(ratio_of(sparsity))}
    gap = max(10.0, (max(positions.values()) - min(positions.values())) / 5) if positions else 10.0
    ticks = [(position, f"{position:g}") for position in positions.values()]
    for pattern in ordered:
        if pattern not in positions:
            positions[pattern] = max(positions.values(), default=0.0) + gap
            ticks.append((positions[pattern], pattern))
    return Axis("zeros in the pruned matrices (%)", ticks=tuple(ticks)), positions


def alike(plots: Iterable[Plot]) -> list[list[Plot]]:
    """Plots with the same quantities on their axes, which are shown with common limits; in the order of the first.

    The dense perplexity that an axis names in brackets may differ, as it does from model to model.
    """

    def quantities(plot: Plot) -> tuple[object, ...]:
        axes = (without_unit(plot.x), without_unit(plot.y))
        return (plot.sideways, *((axis.label, axis.scale, axis.cut) for axis in axes))

    return list(group_by(plots, quantities).values())


def without_unit(axis: Axis) -> Axis:
    """An axis whose label does not say in brackets what is 1 on it."""
    return replace(axis, label=re.sub(r" \(\d[\d.e+]*\)$", "", axis.label))


def drop_empty(plots: Iterable[Plot]) -> list[Plot]:
    """Drop plots without points, and number file names that occur twice."""
    names: Counter[str] = Counter()
    shown = []
    for plot in plots:
        if any(series.points for series in plot.series):
            names[plot.name] += 1
            repeats = names[plot.name] - 1
            shown.append(replace(plot, name=f"{plot.name}--{repeats}") if repeats else plot)
    return shown
