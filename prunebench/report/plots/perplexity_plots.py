"""Plots of perplexity: against sparsity, and dots for n:m patterns, in times the dense model's."""

import math
from collections.abc import Sequence
from dataclasses import replace

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.averages import Estimate, mean_perplexities
from prunebench.report.plots.axes import drop_empty, file_stem, join_title, ratio_of, sparsity_axis
from prunebench.report.plots.over_sparsity import dense_lines, series_over_sparsity
from prunebench.report.plots.plot import Axis, HorizontalLine, Plot, Series
from prunebench.report.scene import TextScene
from prunebench.report.tables.heat import COLLAPSED


def perplexity_plots(scenes: Sequence[TextScene], array_store: ArrayStore | None = None) -> list[Plot]:
    """Perplexity against sparsity, for each text and setting: lines over fractions of zeros, and dots for n:m patterns.

    Perplexities are in times the dense model's where that was measured, and the axis ends at ``COLLAPSED``.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.texts``.
        array_store: the arrays of the records; without them, bars are intervals over seeds alone.
    """
    plots = []
    for scene in (each.succeeded() for each in scenes):
        unit = scene.dense or 1.0

        def measure(
            groups: dict[str, list[Record]], scene: TextScene = scene, unit: float = unit
        ) -> dict[str, Estimate]:
            found = mean_perplexities(groups, scene.protocol, array_store)
            return {name: (value / unit, low / unit, high / unit) for name, (value, low, high) in found.items()}

        axis, series = series_over_sparsity(scene, measure, budgets=True)
        facts = [r.perplexity[scene.protocol] for r in scene.records if scene.protocol in r.perplexity]
        floors = {fact.floor for fact in facts if fact.floor is not None}
        lines = dense_lines(scene)
        fractions, _ = sparsity_axis([s for s in scene.sparsities if math.isfinite(ratio_of(s))])
        lines += [HorizontalLine(f"floor {text.number(floor)}", floor / unit) for floor in floors]
        for kind, is_line in (("", True), ("n:m patterns", False)):
            own = tuple(each for each in series if each.line == is_line)
            plot = Plot(
                name=file_stem("perplexity", scene.model, scene.title, scene.label, kind),
                title=join_title(f"Perplexity of {scene.model} on {scene.title}", scene.label, kind),
                panel=join_title(scene.model, scene.title, scene.label, kind),
                x=fractions if is_line else axis,
                y=times_axis(scene, own),
                series=own,
                lines=tuple(lines),
            )
            plots.append(plot if is_line else _as_dots(plot, scene.sparsities))
    return drop_empty(plots)


def times_axis(scene: TextScene, series: Sequence[Series]) -> Axis:
    """An axis of perplexities, cut where models have collapsed if any has not."""
    if scene.dense is None:
        return Axis("perplexity", "log")
    small = any(y <= COLLAPSED for each in series for _, y in each.points)
    label = f"perplexity, times dense ({text.number(scene.dense)})"
    return Axis(label, "log", cut=COLLAPSED if small else None)


def _as_dots(plot: Plot, sparsities: Sequence[str]) -> Plot:
    """A plot over n:m patterns turned sideways: a row for each pattern and method, the first above."""
    patterns = [sparsity for sparsity in sparsities if not math.isfinite(ratio_of(sparsity))]
    position_of = {position: label for position, label in plot.x.ticks if label in patterns}
    rows = [
        (label, each, point, bar)
        for position, label in position_of.items()
        for each in plot.series
        for point, bar in zip(each.points, each.bars, strict=True)
        if math.isclose(point[0], position)
    ]
    names = [f"{each.label} {label}" if len(patterns) > 1 else each.label for label, each, _, _ in rows]
    series = tuple(
        replace(each, points=((point[1], float(-row)),), bars=(bar,)) for row, (_, each, point, bar) in enumerate(rows)
    )
    ticks = tuple((float(-row), name) for row, name in enumerate(names))
    panel = plot.panel if len(patterns) != 1 else plot.panel.replace("n:m patterns", patterns[0])
    return replace(plot, panel=panel, x=plot.y, y=Axis("", ticks=ticks), series=series, lines=(), sideways=True)
