"""What plots are made of: records that may be compared, their colours, and the axis that they share."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prunebench import text
from prunebench.report.grouping import (
    sparsity_order,
)
from prunebench.report.plots.plot import Axis, Plot


def file_stem(*words: str) -> str:
    """A file name's stem."""
    kept = "".join(sign if sign.isalnum() or sign == "." else "-" for sign in "--".join(map(text.printable, words)))
    while "---" in kept:
        kept = kept.replace("---", "--")
    return kept.strip("-.")[:120]


def join_title(*parts: str) -> str:
    """A title from its parts; empty ones fall out."""
    return ", ".join(text.printable(part) for part in parts if part)


def ratio_of(sparsity: str) -> float:
    """The fraction that a sparsity names; NaN for an n:m pattern."""
    try:
        return float(sparsity)
    except ValueError:
        return math.nan


def sparsity_axis(sparsities: Sequence[str]) -> tuple[Axis, dict[str, float]]:
    """An axis for fractions of zeros, with a place of its own for each n:m pattern to their right.

    Returns:
        The axis, and where each sparsity stands on it, in percent for fractions.
    """
    ordered = sparsity_order(sparsities)
    places = {sparsity: 100 * ratio_of(sparsity) for sparsity in ordered if math.isfinite(ratio_of(sparsity))}
    gap = max(10.0, (max(places.values()) - min(places.values())) / 5) if places else 10.0
    ticks = [(place, f"{place:g}") for place in places.values()]
    for pattern in ordered:
        if pattern not in places:
            places[pattern] = max(places.values(), default=0.0) + gap
            ticks.append((places[pattern], pattern))
    return Axis("zeros in the pruned matrices (%)", ticks=tuple(ticks)), places


def drop_empty(plots: Iterable[Plot]) -> list[Plot]:
    """Plots that have something to show, each under a file name of its own."""
    names: Counter[str] = Counter()
    kept = []
    for plot in plots:
        if any(series.points for series in plot.series):
            names[plot.name] += 1
            again = names[plot.name] - 1
            kept.append(replace(plot, name=f"{plot.name}--{again}") if again else plot)
    return kept
