"""Series over sparsities, and the lines of dense models, which several plots have."""

import math
from collections.abc import Callable

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.averages import Estimate, mean_perplexity
from prunebench.report.budgets import BLOCK_WISE, END_TO_END, budget, group_of
from prunebench.report.plots.axes import ratio_of, sparsity_axis
from prunebench.report.plots.plot import Axis, HorizontalLine, Series
from prunebench.report.scene import Scene, TextScene


def series_over_sparsity(
    scene: Scene,
    measure: Callable[[dict[str, list[Record]]], dict[str, Estimate]],
    dodge: float = 0.0,
    *,
    budgets: bool = False,
) -> tuple[Axis, tuple[Series, ...]]:
    """For each method, a line over fractions of zeros and separate markers over n:m patterns.

    Args:
        scene: the records to plot.
        measure: the value and interval of each method at one sparsity, from the records of their seeds; a method that
            is not in the result is left out.
        dodge: horizontal distance between methods, as a fraction of the axis, so that bars do not hide one another.
        budgets: whether methods that were trained are labelled with the tokens they were trained on.
    """
    axis, positions = sparsity_axis(scene.sparsities)
    width = max(positions.values(), default=0.0) - min(positions.values(), default=0.0) or 1.0
    series = []
    found = {
        sparsity: measure({m: group for (m, s), group in scene.cells.items() if s == sparsity})
        for sparsity in scene.sparsities
    }
    for number, (method, own) in enumerate(scene.by_method.items()):
        shift = dodge * width * (number - (len(scene.by_method) - 1) / 2)
        measured = [(sparsity, values[method]) for sparsity, values in found.items() if method in values]
        trained = budgets and group_of(own) in (BLOCK_WISE, END_TO_END)
        label = f"{method} ({budget(own)} tokens)" if trained else method
        for line in (True, False):
            part = [entry for entry in measured if math.isfinite(ratio_of(entry[0])) == line]
            if part:
                points = tuple((positions[sparsity] + shift, estimate[0]) for sparsity, estimate in part)
                bars = tuple(estimate[1:] for _, estimate in part)
                series.append(Series(label, scene.styles[method], points, bars, line=line))
    return axis, tuple(series)


def dense_lines(scene: TextScene) -> list[HorizontalLine]:
    """The perplexities of dense models as lines, in times the dense model's where that was measured."""
    means = {method: mean_perplexity(seeds, scene.protocol) for method, seeds in scene.baselines.items()}
    return [
        HorizontalLine(f"{method} {text.number(mean[0])}", mean[0] / (scene.dense or 1.0))
        for method, mean in means.items()
        if mean is not None
    ]
