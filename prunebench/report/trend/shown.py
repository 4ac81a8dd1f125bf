"""Trends as tables, as JSON and as plots."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from prunebench import text
from prunebench.report.output.tidy import json_number
from prunebench.report.plots.plot import Axis, Plot, Series
from prunebench.report.styles import style_number
from prunebench.report.tables.table import Table, caption
from prunebench.report.trend.failed import FailedCell
from prunebench.report.trend.series import Commit, Metric, Trend, grouped
from prunebench.report.trend.steps import Step
from prunebench.text import counted

MOST_TICKS = 4
LONGEST_TICK = 10  # characters


def trend_tables(found: Sequence[Trend], failed: Sequence[FailedCell] = ()) -> list[Table]:
    """A table of steps, if there are any, one of all series, and one of cells that failed, if there are any.

    Args:
        found: the series.
        failed: all failed cells of the history, also those that no series is of.
    """
    steps = Table(
        "Steps: where a level changed beyond noise",
        ("commit", "model", "method", "sparsity", "of", "before", "after", "change (95 % interval)", "verdict"),
        tuple(
            (
                trend.commits[step.index].name,
                *_names(trend),
                _value(trend, trend.level(step.before)),
                _value(trend, trend.level(step.after)),
                _change(trend, step),
                "worse" if trend.worse(step) else "better",
            )
            for trend in found
            for step in trend.steps
        ),
    )
    missing = ("failed",) if failed else ()
    series = Table(
        caption(
            f"Trends of {found[0].metric}" if found else "Trends",
            f"{counted(len(failed), 'failed cell')} left out" if failed else "",
        ),
        (*("model", "method", "sparsity", "of", "commits", "first", "last", "noise", "steps"), *missing),
        tuple(
            (
                *_names(trend),
                str(len(trend.values)),
                _value(trend, trend.values[0]),
                f"failed at {trend.ended}" if trend.ended else _value(trend, trend.values[-1]),
                _noise(trend),
                str(len(trend.steps)),
                *(str(len(trend.failed)) for _ in missing),
            )
            for trend in found
        ),
    )
    without = Table(
        "Failed cells, which have no value",
        ("commit", "model", "method", "sparsity", "seed", "error"),
        tuple(
            (
                cell.commit,
                *(text.printable(str(part)) for part in (cell.record.cell.model, cell.record.cell.method)),
                *(cell.record.cell.sparsity, str(cell.record.cell.seed), cell.error),
            )
            for cell in failed
        ),
    )
    return [table for table in (steps, series, without) if table.rows]


def trend_json(found: Sequence[Trend]) -> list[dict[str, Any]]:
    """Every series with its points and steps, as plain JSON."""
    return [
        {
            "model": trend.model,
            "method": trend.method,
            "sparsity": trend.sparsity,
            "metric": str(trend.metric),
            "of": trend.of,
            "points": [
                {
                    "commit": commit.name,
                    "started": commit.started,
                    "value": json_number(value),
                    "stderr": json_number(noise),
                }
                for commit, value, noise in zip(trend.commits, trend.values, trend.noise, strict=True)
            ],
            "steps": [
                {
                    "commit": trend.commits[step.index].name,
                    "before": trend.level(step.before),
                    "after": trend.level(step.after),
                    "change": trend.change(step),
                    "worse": trend.worse(step),
                }
                for step in trend.steps
            ],
            "failed": [
                {"commit": cell.commit, "seed": cell.record.cell.seed, "error": cell.error} for cell in trend.failed
            ],
            "ended": trend.ended,
        }
        for trend in found
    ]


def trend_plots(found: Sequence[Trend], history: Sequence[Commit]) -> list[Plot]:
    """A plot for each model and protocol or task: a colour for each method, a dash for each sparsity.

    Args:
        found: the series.
        history: all commits, in their order.
    """
    plots = []
    for (model, of), members in grouped(found).items():
        present = {id(commit) for trend in members for commit in trend.commits}
        commits = [commit for commit in history if id(commit) in present]
        every = -(-len(commits) // MOST_TICKS)
        ticks = tuple((float(x), commit.name[:LONGEST_TICK]) for x, commit in enumerate(commits) if x % every == 0)
        places = {id(commit): float(x) for x, commit in enumerate(commits)}
        metric, sparsities = members[0].metric, list(dict.fromkeys(trend.sparsity for trend in members))
        title = " ".join(part for part in (f"{metric.capitalize()} of {model}", of and f"on {of}") if part)
        plots.append(
            Plot(
                name="".join(c if c.isalnum() or c in ".-" else "-" for c in f"trend-{metric}-{model}-{of}").strip("-"),
                title=title,
                panel=f"{model}, {of}",
                x=Axis("commit", ticks=ticks),
                y=Axis(_LABELS[metric], "log" if metric.relative else "linear"),
                series=tuple(
                    series for trend in members for series in _lines(trend, places, sparsities.index(trend.sparsity))
                ),
            )
        )
    return plots


_LABELS = {
    Metric.PERPLEXITY: "perplexity",
    Metric.ACCURACY: "accuracy, %",
    Metric.TIME: "seconds to prune",
    Metric.MEMORY: "bytes at the peak",
}


def _lines(trend: Trend, places: Mapping[int, float], dash: int) -> list[Series]:
    scale = 1.0 if trend.metric.relative else 100.0
    xs = [places[id(commit)] for commit in trend.commits]
    label = f"{trend.method} {trend.sparsity}" + (f", failed at {trend.ended[:LONGEST_TICK]}" if trend.ended else "")
    style = style_number(trend.method)
    values = tuple((x, scale * value) for x, value in zip(xs, trend.values, strict=True))
    found = [Series(label, style, values, markers=len(values) < 20, dash=dash or None)]
    for step in trend.steps:
        at, y = xs[step.index], scale * trend.level(step.after)
        found.append(Series("", style, ((at, y),), names=(_change(trend, step).partition(" (")[0],), line=False))
    return found


def _names(trend: Trend) -> tuple[str, str, str, str]:
    return trend.model, trend.method, trend.sparsity, trend.of or text.MISSING


def _noise(trend: Trend) -> str:
    """That of the median point."""
    middle = sorted(trend.noise)[len(trend.noise) // 2]
    return "unknown" if math.isnan(middle) else f"{100 * middle:.2g} {_unit(trend)}"


def _unit(trend: Trend) -> str:
    return "%" if trend.metric.relative else "points"


def _value(trend: Trend, value: float) -> str:
    if trend.metric is Metric.ACCURACY:
        return f"{100 * value:.1f}"
    show = {Metric.TIME: text.seconds, Metric.MEMORY: text.size}.get(trend.metric, text.number)
    return show(value)


def _change(trend: Trend, step: Step) -> str:
    half = float(stats.t.ppf(0.975, trend.freedom)) * step.stderr
    ends = (Step(step.index, step.before, step.after + side, 0.0) for side in (-half, half))
    low, high = (f"{100 * trend.change(end):+.1f}" for end in ends)
    return f"{100 * trend.change(step):+.1f} {_unit(trend)} ({low} to {high})"
