"""Perplexity and accuracy against the tokens that methods trained on: one line for each method."""

from collections.abc import Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.averages import Estimate, mean_perplexities
from prunebench.report.lines import Line, budget_lines, sparsities_with_lines
from prunebench.report.plots.axes import drop_empty, file_stem, join_title
from prunebench.report.plots.perplexity_plots import times_axis
from prunebench.report.plots.plot import Axis, HorizontalLine, Plot, Series
from prunebench.report.scene import TextScene
from prunebench.report.tables.best import chance_of
from prunebench.report.tables.scores import Column, mean_over_seeds, mean_over_tasks, scores

TOKENS = "tokens trained on"


def budget_plots(scenes: Sequence[TextScene], array_store: ArrayStore | None = None) -> list[Plot]:
    """Perplexity, and mean accuracy over tasks, against training tokens, where a method has several budgets.

    Methods that train nothing stand at zero, which the logarithmic axis has at its left end.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.texts``.
        array_store: the arrays of the records; without them bars are intervals over seeds alone.
    """
    plots: list[Plot] = []
    accuracies: dict[str, Plot] = {}
    for scene in scenes:
        for sparsity in sparsities_with_lines(scene):
            lines = budget_lines(scene, sparsity)
            dense = [] if scene.dense is None else [HorizontalLine(f"dense {text.number(scene.dense)}", 1.0)]
            series = _series(lines, _perplexities(lines, scene, array_store))
            amounts = sorted({budget.tokens for line in lines for budget in line.budgets} - {0})
            ticks = tuple({text.count(tokens): (tokens, text.count(tokens)) for tokens in amounts}.values())
            where = f"{scene.model} at {sparsity}"
            plots.append(
                Plot(
                    name=file_stem("budget", scene.model, scene.title, sparsity, scene.label),
                    title=join_title(f"Perplexity of {where} on {scene.title} against {TOKENS}", scene.label),
                    panel=join_title(where, scene.title, scene.label),
                    x=Axis(TOKENS, "log", ticks),
                    y=times_axis(scene, series),
                    series=series,
                    lines=tuple(dense),
                )
            )
            records = [r for line in lines for budget in line.budgets for r in budget.records]
            found = {budget.method: _accuracy(budget.records) for line in lines for budget in line.budgets}
            known = {method: estimate for method, estimate in found.items() if estimate is not None}
            tasks = [column.task for column in _tasks(records[0])] if records else []
            chance = chance_of(records, tasks) if tasks else None
            base = _accuracy(scene.untouched)
            rules = [("chance", None if chance is None else 100 * chance), ("dense", base and base[0])]
            plot = Plot(
                name=file_stem("budget-tasks", scene.model, sparsity, scene.label),
                title=join_title(f"Mean accuracy of {where} against {TOKENS}", scene.label),
                panel=join_title(where, f"mean of {text.counted(len(tasks), 'task')}", scene.label),
                x=Axis(TOKENS, "log", ticks),
                y=Axis("mean accuracy (%)"),
                series=_series(lines, known),
                lines=tuple(HorizontalLine(f"{name} {y:.1f}", y) for name, y in rules if y is not None),
            )
            accuracies.setdefault(plot.name, plot)  # once, whatever the number of texts
    return drop_empty([*plots, *accuracies.values()])


def _series(lines: Sequence[Line], estimates: dict[str, Estimate]) -> tuple[Series, ...]:
    found = []
    for line in lines:
        known = [(budget.tokens, estimates[budget.method]) for budget in line.budgets if budget.method in estimates]
        points = tuple((tokens, estimate[0]) for tokens, estimate in known)
        bars = tuple(estimate[1:] for _, estimate in known)
        label = line.label if line.style is not None else f"{line.label} (dense)"
        found.append(Series(label, line.style, points, bars, line=len(points) > 1))
    return tuple(found)


def _perplexities(lines: Sequence[Line], scene: TextScene, array_store: ArrayStore | None) -> dict[str, Estimate]:
    """By label of an entry, in times the dense model's where that was measured."""
    groups = {budget.method: budget.records for line in lines for budget in line.budgets}
    found, unit = mean_perplexities(groups, scene.protocol, array_store), scene.dense or 1.0
    return {name: (value / unit, low / unit, high / unit) for name, (value, low, high) in found.items()}


def _tasks(record: Record) -> list[Column]:
    return [column for column in scores(record) if column.share]


def _accuracy(records: Sequence[Record]) -> Estimate | None:
    """The mean over tasks and seeds in percent, with its interval; None if a seed lacks a task."""
    of_seeds = [{c: s for c, s in scores(record).items() if c.share} for record in records]
    if not of_seeds or not of_seeds[0] or any(set(found) != set(of_seeds[0]) for found in of_seeds):
        return None
    mean = mean_over_tasks(list(mean_over_seeds(of_seeds).values()))
    return 100 * mean.value, 100 * mean.low, 100 * mean.high
