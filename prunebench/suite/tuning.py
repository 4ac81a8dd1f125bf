"""Tuning: trials of a method's options on a text of their own, and the choice that the cells of the suite run with.

A trial is an ordinary cell: a method entry with one combination of the grid's values, measured on the validation text
alone. What it found is read from its record, so a suite that tunes is planned twice: first its trials, then its cells.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prunebench.errors import SuiteError, suggest
from prunebench.pruning.sparsity import Pattern, parse_pattern
from prunebench.records.cell_facts import TuningFacts
from prunebench.records.record import Record
from prunebench.suite.cell import Cell
from prunebench.suite.planning import chosen_entries, plan
from prunebench.suite.schema import MethodEntry, PerplexityEntry, Suite

TRIALS = "trials"  # a results folder of its own, in that of the suite
Point = Mapping[str, Any]
"""One combination of a grid's values, by option."""


def plan_trials(suite: Suite, *, only: Sequence[str] = (), **how: Any) -> tuple[Cell, ...]:
    """The trials of every entry that is tuned; none in most suites.

    The suite's own cells are planned as well, with the first combination of each grid, so that all that can be refused
    is refused before the first trial runs.

    Args:
        suite: what is asked for.
        only: labels or names of method entries; none means all.
        how: further arguments of ``prunebench.suite.planning.plan``.

    Raises:
        UsageError: as in ``plan``; or a validation text is a test text, or a grid names what is no option.
    """
    tuned = _tuned_entries(suite, only)
    if not tuned:
        return ()
    asked = plan(_with_options(suite, lambda entry, model, sparsity: points_of(entry)[0]), only=only, **how)
    tests = {digest for cell in asked for evaluation in cell.evaluations if (digest := evaluation.facts.get("digest"))}
    cells: dict[str, Cell] = {}
    for text in dict.fromkeys(entry.tune.text for entry in tuned if entry.tune):
        for cell in plan(_trial_suite(suite, tuned, text), **{**how, "tell": lambda line: None}):
            if (facts := cell.evaluations[0].facts).get("digest") in tests:
                raise SuiteError(
                    f"the validation text {facts['protocol']} is one that the suite measures on: tune on another text, "
                    "as another split"
                )
            cells[cell.id] = cell
    return tuple(cells.values())


def plan_tuned(
    suite: Suite, trials: Iterable[Record], *, only: Sequence[str] = (), **how: Any
) -> tuple[tuple[Cell, ...], list[str]]:
    """The cells of a suite, with the options that its trials chose.

    Args:
        suite: what is asked for.
        trials: the records of ``plan_trials``.
        only, how: as in ``plan_trials``.

    Returns:
        The cells; and a line for each model and sparsity at which no combination ran well, which have none.

    Raises:
        UsageError: as in ``plan``, or there is no cell left.
    """
    found = _Found(suite, trials)
    cells = plan(_with_options(suite, found.point), only=only, **how)
    facts = found.facts
    named = ((cell, facts.get((cell.method, cell.model, str(cell.sparsity)))) for cell in cells)
    return tuple(cell if known is None else cell.model_copy(update={"tuning": known}) for cell, known in named), [
        f"{method} at {sparsity} on {model} is left out: none of its trials ran well, see {TRIALS}/"
        for method, model, sparsity in found.missing
    ]


def points_of(entry: MethodEntry) -> list[Point]:
    """The combinations that are tried for an entry, in the order of its grid; of many, a random draw that is fixed."""
    assert entry.tune is not None
    grid = entry.tune.grid
    points: list[Point] = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    count = entry.tune.trials
    if count is None or count >= len(points):
        return points
    drawn = sorted(random.Random(0).sample(range(len(points)), count))
    return [points[index] for index in drawn]


def label_of(entry: MethodEntry, point: Point) -> str:
    """What tables call a trial, as ``elsa lr=0.01``."""
    return " ".join((entry.title, *(f"{name}={value}" for name, value in point.items())))


def _tuned_entries(suite: Suite, only: Sequence[str]) -> list[MethodEntry]:
    """The entries that the trials are of, those included that others take their options from."""
    chosen = [_source(suite, entry) for entry in chosen_entries(suite.methods, list(only)) if entry.tune is not None]
    return [entry for index, entry in enumerate(chosen) if entry not in chosen[:index]]


def _source(suite: Suite, entry: MethodEntry) -> MethodEntry:
    """The entry whose trials choose an entry's options: itself, or the one that it names."""
    assert entry.tune is not None
    if not entry.tune.like:
        return entry
    searched = {other.title: other for other in suite.methods if other.tune is not None and other.tune.grid}
    if entry.tune.like not in searched:
        raise SuiteError(
            f"the method {entry.title!r} is tuned like {entry.tune.like!r}, which has no grid: "
            f"{suggest(entry.tune.like, searched)}"
        )
    return searched[entry.tune.like]


def _trial_suite(suite: Suite, entries: Iterable[MethodEntry], text: PerplexityEntry | None) -> Suite:
    """The suite of all trials on one text."""
    assert text is not None
    methods = []
    for entry in entries:
        assert entry.tune is not None
        if entry.tune.text == text:
            seeds = entry.tune.seeds or (entry.seeds or suite.seeds)[:1]
            axes = {"sparsities": entry.tune.sparsities or entry.sparsities, "seeds": seeds, "tune": None}
            for point in points_of(entry):
                tried = _with_point(entry, point)
                methods.append(tried.model_copy(update={**axes, "label": label_of(entry, point)}))
    return suite.model_copy(update={"methods": tuple(methods), "evaluations": (text,), "published": None})


def _with_options(suite: Suite, point_of: Callable[[MethodEntry, str, Pattern], Point | None]) -> Suite:
    """The suite with an entry for each model and sparsity in place of each entry that is tuned."""
    methods: list[MethodEntry] = []
    for entry in suite.methods:
        if entry.tune is None:
            methods.append(entry)
            continue
        models = entry.models or tuple(model.name for model in suite.models)
        for model, sparsity in itertools.product(models, entry.sparsities or suite.sparsities):
            if (point := point_of(_source(suite, entry), model, sparsity)) is not None:
                fixed = {"tune": None, "label": entry.title, "models": (model,), "sparsities": (sparsity,)}
                methods.append(_with_point(entry, point).model_copy(update=fixed))
    if not methods:
        raise SuiteError("there is no cell to run: no trial of any method ran well")
    return suite.model_copy(update={"methods": tuple(methods)})


def _with_point(entry: MethodEntry, point: Point) -> MethodEntry:
    """An entry with a combination of options; ``<method>.<option>`` is one of a stage that follows."""
    options: dict[str, dict[str, Any]] = {"": {}, **{stage.name: {} for stage in entry.then}}
    for name, value in point.items():
        stage, _, option = name.rpartition(".")
        if stage not in options:
            raise SuiteError(
                f"the grid of {entry.title!r} names {name!r}, but no method of that name follows: "
                f"{suggest(stage, [stage.name for stage in entry.then])}"
            )
        options[stage][option] = value
    then = (s.model_copy(update={"options": {**s.options, **options[s.name]}}) for s in entry.then)
    return entry.model_copy(update={"options": {**entry.options, **options[""]}, "then": tuple(then)})


class _Found:
    """What the trials of a suite found.

    Args:
        suite: with the entries that are tuned.
        trials: their records.

    Attributes:
        facts: by (method, model, sparsity), of the choices that were asked for.
        missing: the same keys, where there was nothing to choose from.
    """

    def __init__(self, suite: Suite, trials: Iterable[Record]) -> None:
        self._suite, self._trials = suite, list(trials)
        self.facts: dict[tuple[str, str, str], TuningFacts] = {}
        self.missing: list[tuple[str, str, str]] = []

    def point(self, entry: MethodEntry, model: str, sparsity: Pattern) -> Point | None:
        """The combination with the lowest validation loss; of equal ones the first. None where none ran well.

        Where the sparsity was not searched at, that of the nearest one that was.
        """
        trials = list(self._nearest(entry, model, sparsity))
        losses = {label_of(entry, point): point for point in points_of(entry)}
        best = min(losses, key=lambda label: _mean_loss(r for r in trials if r.cell.method == label))
        chosen = [record for record in trials if record.cell.method == best]
        # Entries that are tuned like this one share its trials, and each of their cells tells of them.
        keys = [(e.title, model, str(sparsity)) for e in self._suite.methods if self._is_like(e, entry)]
        if not math.isfinite(_mean_loss(chosen)):
            self.missing += [key for key in keys if key not in self.missing]
            return None
        known = TuningFacts(
            trials=len(losses),
            tokens=sum(record.cost.tokens_seen or 0 for record in trials),
            text=next(iter(chosen[0].perplexity)),
            sparsity=chosen[0].cell.sparsity,
            options=dict(losses[best]),
        )
        self.facts |= dict.fromkeys([*keys, *((title, model, known.sparsity) for title, *_ in keys)], known)
        return losses[best]

    def _is_like(self, entry: MethodEntry, source: MethodEntry) -> bool:
        return entry.tune is not None and _source(self._suite, entry) is source

    def _nearest(self, entry: MethodEntry, model: str, sparsity: Pattern) -> Iterator[Record]:
        """The trials of an entry on a model, at the searched sparsity that is nearest."""
        labels = {label_of(entry, point) for point in points_of(entry)}
        own = [record for record in self._trials if record.cell.model == model and record.cell.method in labels]
        searched = {record.cell.sparsity: parse_pattern(record.cell.sparsity) for record in own}

        def distance(text: str) -> tuple[float, bool, float]:
            pattern = searched[text]
            return abs(pattern.ratio - sparsity.ratio), pattern.kind != sparsity.kind, -pattern.ratio

        nearest = str(sparsity) if str(sparsity) in searched else min(searched, key=distance, default=None)
        return (record for record in own if record.cell.sparsity == nearest)


def _mean_loss(records: Iterable[Record]) -> float:
    """Mean validation loss over seeds, in nats; infinite where a seed failed or there is none."""
    losses = [next((p.nll for p in r.perplexity.values()), math.inf) if r.status == "ok" else math.inf for r in records]
    mean = math.fsum(losses) / len(losses) if losses else math.inf
    return mean if math.isfinite(mean) else math.inf
