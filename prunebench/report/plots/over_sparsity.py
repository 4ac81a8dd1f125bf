"""Series over sparsities, and the lines of dense models, which several plots have."""

import math
from collections.abc import Callable

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.averages import Estimate
from prunebench.report.budgets import BLOCK_WISE, END_TO_END, budget, group_of
from prunebench.report.grouping import SettingGroup
from prunebench.report.plots.axes import ratio_of, sparsity_axis
from prunebench.report.plots.plot import Axis, HorizontalLine, Series


def series_over_sparsity(
    setting_group: SettingGroup,
    styles: dict[str, int],
    measure: Callable[[dict[str, list[Record]]], dict[str, Estimate]],
    dodge: float = 0.0,
    *,
    budgets: bool = False,
) -> tuple[Axis, tuple[Series, ...]]:
    """For each method, a line over fractions of zeros and separate markers over n:m patterns.

    Args:
        setting_group: the records to plot.
        styles: see ``method_styles``.
        measure: the value and interval of each method at one sparsity, from the records of their seeds; a method that
            is not in the result is left out.
        dodge: horizontal distance between methods, as a fraction of the axis, so that bars do not hide one another.
        budgets: whether methods that were trained are labelled with the tokens they were trained on.
    """
    axis, positions = sparsity_axis(setting_group.sparsities)
    methods = setting_group.methods(styles)
    width = max(positions.values(), default=0.0) - min(positions.values(), default=0.0) or 1.0
    series = []
    found = {
        sparsity: measure({m: setting_group.entries[m, s] for m, s in setting_group.entries if s == sparsity})
        for sparsity in setting_group.sparsities
    }
    for number, method in enumerate(methods):
        shift = dodge * width * (number - (len(methods) - 1) / 2)
        measured = [
            (sparsity, found[sparsity][method]) for sparsity in setting_group.sparsities if method in found[sparsity]
        ]
        own = [record for (name, _), group in setting_group.entries.items() if name == method for record in group]
        trained = budgets and group_of(own) in (BLOCK_WISE, END_TO_END)
        label = f"{method} ({budget(own)} tokens)" if trained else method
        for line in (True, False):
            part = [entry for entry in measured if math.isfinite(ratio_of(entry[0])) == line]
            if part:
                points = tuple((positions[sparsity] + shift, estimate[0]) for sparsity, estimate in part)
                bars = tuple(estimate[1:] for _, estimate in part)
                series.append(Series(label, styles[method], points, bars, line=line))
    return axis, tuple(series)


def dense_lines(setting_group: SettingGroup, protocol: str, unit: float = 1.0) -> list[HorizontalLine]:
    """The perplexities of dense models as lines, divided by ``unit``."""
    return [
        HorizontalLine(
            f"{method} {text.number(record.perplexity[protocol].value)}", record.perplexity[protocol].value / unit
        )
        for method, record in setting_group.baselines.items()
        if protocol in record.perplexity
    ]
