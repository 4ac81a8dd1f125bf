"""Which plots a report has, from records: perplexity, zero-shot tasks, cost, convergence, sparsity of each layer."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.averages import Measured, mean_perplexity
from prunebench.report.grouping import Scene, on_text, scenes, text_title, texts
from prunebench.report.plots.axes import ratio_of, shown, slug, sparsity_axis, titled
from prunebench.report.plots.plot import Axis, Plot, Rule, Series
from prunebench.report.tables.zero_shot import Column, averaged, scores

BAR = 1.96  # standard errors to each side of a 95 % interval
COSTS = (
    ("prune_seconds", "prune time (s)", 1.0),
    ("tokens_seen", "tokens seen", 1.0),
    ("peak_bytes", "peak memory (MiB)", 1024.0**2),
)


def _along_sparsity(
    scene: Scene, looks: dict[str, int], measure: Callable[[Sequence[Record]], Measured | None], dodge: float = 0.0
) -> tuple[Axis, tuple[Series, ...]]:
    """For each method a line over fractions and marks over n:m patterns.

    Args:
        scene: whose entries.
        looks: see ``looks_of``.
        measure: of the seeds of one entry.
        dodge: how far methods stand apart, so that bars do not hide one another, as a share of the axis.
    """
    axis, places = sparsity_axis(scene.sparsities)
    methods = scene.methods(looks)
    width = max(places.values(), default=0.0) - min(places.values(), default=0.0) or 1.0
    series = []
    for number, method in enumerate(methods):
        shift = dodge * width * (number - (len(methods) - 1) / 2)
        measured = [
            (sparsity, found)
            for sparsity in scene.sparsities
            if (found := measure(scene.entries.get((method, sparsity), ()))) is not None
        ]
        for line in (True, False):
            part = [entry for entry in measured if math.isfinite(ratio_of(entry[0])) == line]
            if part:
                points = tuple((places[sparsity] + shift, found[0]) for sparsity, found in part)
                bars = tuple(found[1:] for _, found in part)
                series.append(Series(method, looks[method], points, bars, line=line))
    return axis, tuple(series)


def perplexity_plots(records: Sequence[Record], looks: dict[str, int]) -> list[Plot]:
    """Perplexity against sparsity: a plot for each protocol and setting, with the dense model and the floor.

    Args:
        records: those to show; see ``prunebench.report.grouping.latest``.
        looks: see ``looks_of``.
    """
    plots = []
    for protocol, digest in texts(records):
        title = text_title(protocol, digest, texts(records))
        for scene in scenes(on_text(records, protocol, digest)):
            axis, series = _along_sparsity(scene, looks, partial(mean_perplexity, protocol=protocol))
            everything = [*scene.base.values(), *(record for group in scene.entries.values() for record in group)]
            floors = {r.perplexity[protocol].floor for r in everything if protocol in r.perplexity}
            rules = _dense_rules(scene, protocol) + [
                Rule(f"floor {text.number(floor)}", floor) for floor in floors if floor is not None
            ]
            plots.append(
                Plot(
                    name=slug("perplexity", scene.setting.model, title, scene.words),
                    title=titled(f"Perplexity of {scene.setting.model} on {title}", scene.words),
                    panel=titled(scene.setting.model, title, scene.words),
                    x=axis,
                    y=Axis("perplexity", "log"),
                    series=series,
                    rules=tuple(rules),
                )
            )
    return shown(plots)


def _dense_rules(scene: Scene, protocol: str) -> list[Rule]:
    return [
        Rule(f"{method} {text.number(record.perplexity[protocol].value)}", record.perplexity[protocol].value)
        for method, record in scene.base.items()
        if protocol in record.perplexity
    ]


def zero_shot_plots(records: Sequence[Record], looks: dict[str, int]) -> list[Plot]:
    """Accuracy against sparsity: a plot for each model and task; bars are 95 % intervals over questions.

    Args:
        records, looks: see ``perplexity_plots``.
    """
    plots = []
    for scene in scenes([record for record in records if record.zero_shot]):
        everything = [*scene.base.values(), *(record for group in scene.entries.values() for record in group)]
        columns = list(dict.fromkeys(column for record in everything for column in scores(record)))
        for column in columns:
            axis, series = _along_sparsity(scene, looks, partial(_mean_score, column=column), dodge=0.012)
            dense = {name: _mean_score([record], column) for name, record in scene.base.items()}
            task = text.printable(column.header(columns))
            plots.append(
                Plot(
                    name=slug("zero-shot", scene.setting.model, task, scene.words),
                    title=titled(f"{task} of {scene.setting.model}", scene.words),
                    panel=titled(task, scene.setting.model, scene.words),
                    x=axis,
                    y=Axis(f"{column.metric} (%)" if column.share else column.metric),
                    series=series,
                    rules=tuple(
                        Rule(f"{name} {found[0]:.1f}" if column.share else f"{name} {text.number(found[0])}", found[0])
                        for name, found in dense.items()
                        if found is not None
                    ),
                )
            )
    return shown(plots)


def _mean_score(group: Sequence[Record], column: Column) -> Measured | None:
    found = averaged([scores(record) for record in group]).get(column)
    if found is None:
        return None
    scale = 100 if column.share else 1
    error = math.nan if found.stderr is None else BAR * found.stderr
    return scale * found.value, scale * (found.value - error), scale * (found.value + error)


def cost_plots(records: Sequence[Record], looks: dict[str, int]) -> list[Plot]:
    """Perplexity against what pruning took, at the one sparsity that the most methods share (of several the highest).

    Args:
        records, looks: see ``perplexity_plots``.
    """
    plots = []
    for protocol, digest in texts(records)[:1]:
        for scene in scenes(on_text(records, protocol, digest)):
            if not scene.entries:
                continue
            sparsity = shared_sparsity(scene)
            for amount, label, scale in COSTS:
                series = []
                for method in scene.methods(looks):
                    group = scene.entries.get((method, sparsity), [])
                    spent = [v for record in group if (v := getattr(record.cost, amount)) is not None]
                    found = mean_perplexity(group, protocol)
                    if spent and found is not None:
                        point = (statistics.fmean(spent) / scale, found[0])
                        series.append(Series(method, looks[method], (point,), line=False))
                plots.append(
                    Plot(
                        name=slug("cost", amount, scene.setting.model, protocol, scene.words),
                        title=titled(f"{scene.setting.model} on {protocol} at {sparsity}: {label}", scene.words),
                        panel=titled(f"{scene.setting.model} at {sparsity}", label, scene.words),
                        x=Axis(label, "log"),
                        y=Axis("perplexity", "log"),
                        series=tuple(series),
                        rules=tuple(_dense_rules(scene, protocol)),
                    )
                )
    return shown(plots)


def shared_sparsity(scene: Scene) -> str:
    """The sparsity that the most methods were measured at; of several the highest."""
    counts = Counter(sparsity for _, sparsity in scene.entries)
    most = max(counts.values())
    return [sparsity for sparsity in scene.sparsities if counts[sparsity] == most][-1]


def trace_plots(records: Sequence[Record], looks: dict[str, int]) -> list[Plot]:
    """Where iterative methods stood at each step: a plot for each model and quantity, a line for each cell.

    Args:
        records, looks: see ``perplexity_plots``.
    """
    plots = []
    for scene in scenes([record for record in records if record.trace]):
        everything = [record for group in scene.entries.values() for record in group]
        for quantity in dict.fromkeys(name for record in everything for row in record.trace for name in row):
            if quantity == "step":
                continue
            series = tuple(
                Series(
                    label=f"{method} at {sparsity}",
                    look=looks[method],
                    points=tuple((row["step"], row[quantity]) for row in r.trace if "step" in row and quantity in row),
                    marks=False,
                    dash=scene.sparsities.index(sparsity),
                )
                for method in scene.methods(looks)
                for sparsity in scene.sparsities
                for r in scene.entries.get((method, sparsity), ())
            )
            values = [y for line in series for _, y in line.points if math.isfinite(y)]
            wide = bool(values) and min(values) > 0 and max(values) / min(values) > 30
            plots.append(
                Plot(
                    name=slug("trace", quantity, scene.setting.model, scene.words),
                    title=titled(f"Convergence on {scene.setting.model}: {quantity}", scene.words),
                    panel=titled(quantity, scene.setting.model, scene.words),
                    x=Axis("step"),
                    y=Axis(text.printable(quantity), "log" if wide else "linear"),
                    series=tuple(line for line in series if line.points),
                )
            )
    return shown(plots)


def layer_plots(records: Sequence[Record], looks: dict[str, int]) -> list[Plot]:
    """Zeros in each matrix, a line for each way in which they are shared out.

    Args:
        records, looks: see ``perplexity_plots``.
    """
    plots = []
    for scene in scenes([record for record in records if record.sparsity is not None]):
        profiles: dict[tuple[float, ...], list[tuple[str, str]]] = {}
        names: tuple[str, ...] = ()
        for key, group in scene.entries.items():
            for facts in (record.sparsity for record in group if record.sparsity is not None):
                names = tuple(facts.matrices)
                shares = tuple(round(100 * m.zeros / m.numel, 1) if m.numel else 0.0 for m in facts.matrices.values())
                profiles.setdefault(shares, []).append(key)
        series = []
        for shares, found in sorted(profiles.items()):
            methods = list(dict.fromkeys(method for method, _ in found))
            one = methods[0] if len(methods) == 1 else None
            series.append(
                Series(
                    label=one or ("several methods" if len(methods) < len(scene.methods(looks)) else "every method"),
                    look=None if one is None else looks[one],
                    points=tuple((float(place), share) for place, share in enumerate(shares)),
                    names=("",) * (len(shares) - 1) + (", ".join(dict.fromkeys(sparsity for _, sparsity in found)),),
                    marks=False,
                )
            )
        plots.append(
            Plot(
                name=slug("layers", scene.setting.model, scene.words),
                title=titled(f"Zeros in each matrix of {scene.setting.model}", scene.words),
                panel=titled(scene.setting.model, scene.words),
                x=Axis("block, its matrices from left to right", ticks=_block_ticks(names)),
                y=Axis("zeros (%)"),
                series=tuple(series),
            )
        )
    return shown(plots)


def _block_ticks(names: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """The first matrix of each block, by the first number in its name; some twelve at most."""
    starts: dict[str, float] = {}
    for place, name in enumerate(names):
        number = next((part for part in name.split(".") if part.isdigit()), "")
        starts.setdefault(number, float(place))
    ticks = [(place, number) for number, place in starts.items()]
    return tuple(ticks[:: math.ceil(len(ticks) / 12) or 1])
