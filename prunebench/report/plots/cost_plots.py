"""Plots of quality against the cost of pruning."""

import statistics
from collections.abc import Sequence

from prunebench.report.averages import mean_perplexity
from prunebench.report.plots.axes import drop_empty, file_stem, join_title
from prunebench.report.plots.over_sparsity import dense_lines
from prunebench.report.plots.perplexity_plots import times_axis
from prunebench.report.plots.plot import Axis, Plot, Series
from prunebench.report.scene import TextScene
from prunebench.report.tables.heat import most_shared

COSTS = (  # the first at every sparsity, the others at the one that most methods have
    ("prune_seconds", "prune time (s)", 1.0),
    ("tokens_seen", "tokens seen", 1.0),
    ("peak_bytes", "peak memory (MiB)", 1024.0**2),
)


def cost_plots(scenes: Sequence[TextScene]) -> list[Plot]:
    """Perplexity, in times the dense model's, against what pruning took.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.first``.
    """
    plots = []
    for scene in (each.succeeded() for each in scenes):
        shared = most_shared(scene)
        for number, (amount, label, scale) in enumerate(COSTS):
            for sparsity in [s for s in scene.sparsities if number == 0 or s == shared]:
                series = _series(scene, sparsity, amount, scale)
                where = f"{scene.model} at {sparsity}"
                plots.append(
                    Plot(
                        name=file_stem("cost", amount, scene.model, scene.protocol, sparsity, scene.label),
                        title=join_title(f"{where} on {scene.protocol}: {label}", scene.label),
                        panel=join_title(where, label, scene.label),
                        x=Axis(label, "log"),
                        y=times_axis(scene, series),
                        series=series,
                        lines=tuple(dense_lines(scene)),
                    )
                )
    return drop_empty(plots)


def _series(scene: TextScene, sparsity: str, amount: str, scale: float) -> tuple[Series, ...]:
    """A point for each method at one sparsity."""
    found = []
    for method in scene.by_method:
        group = scene.cells.get((method, sparsity), [])
        amounts = [value for record in group if (value := getattr(record.cost, amount)) is not None]
        estimate = mean_perplexity(group, scene.protocol)
        if amounts and estimate is not None:
            point = (statistics.fmean(amounts) / scale, estimate[0] / (scene.dense or 1.0))
            found.append(Series(method, scene.styles[method], (point,), line=False))
    return tuple(found)
