"""Plots of a report: zero-shot tasks, convergence, and sparsity of each layer."""

import math
from collections.abc import Sequence
from functools import partial

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.averages import Estimate
from prunebench.report.plots.axes import drop_empty, file_stem, join_title
from prunebench.report.plots.over_sparsity import series_over_sparsity
from prunebench.report.plots.plot import Axis, HorizontalLine, Plot, Series
from prunebench.report.scene import Scene
from prunebench.report.tables.best import chance_of
from prunebench.report.tables.scores import INTERVAL_STDERRS, Column, mean_over_seeds, scores


def zero_shot_plots(scenes: Sequence[Scene]) -> list[Plot]:
    """Accuracy against sparsity: one plot for each model and task; bars are 95 % intervals over questions.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.tasks``.
    """
    plots = []
    for scene in (each.where(lambda r: r.status == "ok" and bool(r.zero_shot)) for each in scenes):
        all_records = scene.records
        columns = list(dict.fromkeys(column for record in all_records for column in scores(record)))
        for column in columns:
            axis, series = series_over_sparsity(scene, partial(_mean_scores, column=column), dodge=0.012)
            chance = chance_of(all_records, [column.task]) if column.share else None
            dense = {name: _mean_score(seeds, column) for name, seeds in scene.baselines.items()}
            task = text.printable(column.header(columns))
            plots.append(
                Plot(
                    name=file_stem("zero-shot", scene.model, task, scene.label),
                    title=join_title(f"{task} of {scene.model}", scene.label),
                    panel=join_title(task, scene.model, scene.label),
                    x=axis,
                    y=Axis(f"{column.metric} (%)" if column.share else column.metric),
                    series=series,
                    lines=tuple(
                        [HorizontalLine(f"chance {100 * chance:.1f}", 100 * chance)] if chance is not None else []
                    )
                    + tuple(
                        HorizontalLine(
                            f"{name} {estimate[0]:.1f}" if column.share else f"{name} {text.number(estimate[0])}",
                            estimate[0],
                        )
                        for name, estimate in dense.items()
                        if estimate is not None
                    ),
                )
            )
    return drop_empty(plots)


def _mean_score(group: Sequence[Record], column: Column) -> Estimate | None:
    score = mean_over_seeds([scores(record) for record in group]).get(column)
    if score is None:
        return None
    if column.share:
        return 100 * score.value, 100 * score.low, 100 * score.high
    error = math.nan if score.stderr is None else INTERVAL_STDERRS * score.stderr
    return score.value, score.value - error, score.value + error


def _mean_scores(groups: dict[str, list[Record]], column: Column) -> dict[str, Estimate]:
    return {name: score for name, group in groups.items() if (score := _mean_score(group, column)) is not None}


def trace_plots(scenes: Sequence[Scene]) -> list[Plot]:
    """Traces of iterative methods over steps: one plot for each model and quantity, one line for each cell.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
    """
    plots = []
    for scene in (each.where(lambda r: r.status == "ok" and bool(r.trace)) for each in scenes):
        for quantity in dict.fromkeys(name for record in scene.pruned_records for row in record.trace for name in row):
            if quantity == "step":
                continue
            series = tuple(
                Series(
                    label=f"{method} at {sparsity}",
                    style=scene.styles[method],
                    points=tuple((row["step"], row[quantity]) for row in r.trace if "step" in row and quantity in row),
                    markers=False,
                    dash=scene.sparsities.index(sparsity),
                )
                for (method, sparsity), seeds in scene.cells.items()
                for r in seeds
            )
            values = [y for line in series for _, y in line.points if math.isfinite(y)]
            wide = bool(values) and min(values) > 0 and max(values) / min(values) > 30
            plots.append(
                Plot(
                    name=file_stem("trace", quantity, scene.model, scene.label),
                    title=join_title(f"Convergence on {scene.model}: {quantity}", scene.label),
                    panel=join_title(quantity, scene.model, scene.label),
                    x=Axis("step"),
                    y=Axis(text.printable(quantity), "log" if wide else "linear"),
                    series=tuple(line for line in series if len(line.points) > 1),
                )
            )
    return drop_empty(plots)


def layer_plots(scenes: Sequence[Scene]) -> list[Plot]:
    """Fraction of zeros in each matrix: one line for each distinct distribution over the layers.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
    """
    plots = []
    for scene in (each.where(lambda r: r.status == "ok" and r.sparsity is not None) for each in scenes):
        profiles: dict[tuple[float, ...], list[tuple[str, str]]] = {}
        names: tuple[str, ...] = ()
        for key, group in scene.cells.items():
            for facts in (record.sparsity for record in group if record.sparsity is not None):
                names = tuple(facts.matrices)
                shares = tuple(round(100 * m.zeros / m.numel, 1) if m.numel else 0.0 for m in facts.matrices.values())
                profiles.setdefault(shares, []).append(key)
        series = []
        for shares, entries in sorted(profiles.items()):
            methods = list(dict.fromkeys(method for method, _ in entries))
            only_method = methods[0] if len(methods) == 1 else None
            series.append(
                Series(
                    label=only_method or ("several methods" if len(methods) < len(scene.by_method) else "every method"),
                    style=None if only_method is None else scene.styles[only_method],
                    points=tuple((float(index), share) for index, share in enumerate(shares)),
                    names=("",) * (len(shares) - 1) + (", ".join(dict.fromkeys(sparsity for _, sparsity in entries)),),
                    markers=False,
                )
            )
        plots.append(
            Plot(
                name=file_stem("layers", scene.model, scene.label),
                title=join_title(f"Zeros in each matrix of {scene.model}", scene.label),
                panel=join_title(scene.model, scene.label),
                x=Axis("block, its matrices from left to right", ticks=_block_ticks(names)),
                y=Axis("zeros (%)"),
                series=tuple(series),
            )
        )
    return drop_empty(plots)


def _block_ticks(names: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """Ticks at the first matrix of each block, found by the first number in its name; about twelve at most."""
    starts: dict[str, float] = {}
    for position, name in enumerate(names):
        number = next((part for part in name.split(".") if part.isdigit()), "")
        starts.setdefault(number, float(position))
    ticks = [(position, number) for number, position in starts.items()]
    return tuple(ticks[:: math.ceil(len(ticks) / 12) or 1])
