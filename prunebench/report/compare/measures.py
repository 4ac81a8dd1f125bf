"""The measures of a compared cell: changes of perplexity and of accuracy, and why some cannot be compared."""

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.compare.seed_spread import difference_of_runs, pooled_spread, seed_margin, seeds_needed
from prunebench.report.compare.verdict import Measure
from prunebench.report.intervals import Change
from prunebench.report.paired import BySeed, accuracy_change, answers, perplexity_change, task_answers
from prunebench.report.tables.scores import Column, file_digests, task_scores

VALUE_AGREES = 1e-6  # relative; a perplexity and the mean of its losses are computed in float64


@dataclass(frozen=True)
class Side:
    """The records of one side of a compared cell.

    Args:
        records: one for each seed.
        array_store: their arrays.
        deterministic: whether the method gives the same with every seed.
    """

    records: Sequence[Record]
    array_store: ArrayStore
    deterministic: bool

    @property
    def arrays(self) -> BySeed:
        """The arrays of each seed; of one seed for a deterministic method."""
        return {r.cell.seed: self.array_store.read(r) for r in self.records[: 1 if self.deterministic else None]}


Sides = tuple[Side, Side]
Compared = tuple[list[Measure | str], list[str]]


def perplexity_measures(sides: Sides, tolerance: float, known: Sequence[Record]) -> Compared:
    """Changes of perplexity.

    Args:
        sides: BASE and HEAD.
        tolerance: relative.
        known: the seeds of BASE whose spread widens the tolerance; empty unless the method may give another result with
            the same seed.
    """
    base, head = sides[0].records[0], sides[1].records[0]
    texts = [
        {
            str(evaluation["protocol"]): evaluation.get("digest")
            for evaluation in record.cell.evaluations
            if "protocol" in evaluation
        }
        for record in (base, head)
    ]
    arrays = sides[0].arrays, sides[1].arrays
    results: list[Measure | str] = []
    for protocol in base.perplexity:
        if not all(protocol in record.perplexity for record in sides[1].records):
            continue
        old, new = (side.get(protocol) for side in texts)
        if old != new:
            results.append(f"{protocol} is another text: {str(old)[:8]} in BASE, {str(new)[:8]} in HEAD")
            continue
        change = perplexity_change(protocol, *arrays)
        if change is None:
            results.append(f"{protocol}: the losses were not kept on both sides, or are of other sequences")
            continue
        if altered := [
            text for side, name in zip(sides, ("BASE", "HEAD"), strict=True) for text in _altered(side, protocol, name)
        ]:
            results += altered
            continue
        values = [_log_perplexities(side, protocol) for side in sides]
        relative = replace(change, value=change.value - 1, low=change.low - 1, high=change.high - 1)
        spread = pooled_spread(*values)
        limit = tolerance
        if len(of_seeds := _told_by_seed(known, protocol)) > 1:
            limit = max(limit, math.expm1(difference_of_runs(pooled_spread(of_seeds), len(of_seeds))))
        shown = math.exp(np.mean(values[0])), math.exp(np.mean(values[1]))
        results.append(_measure("perplexity", protocol, shown, relative, limit, sides, spread))
    names = [protocol for record in sides[1].records for protocol in record.perplexity]
    return results + _only_in_base(base.perplexity, names), _only_in_head(base.perplexity, dict.fromkeys(names))


def _told_by_seed(records: Sequence[Record], protocol: str) -> list[float]:
    """The logarithm of the perplexity of each seed, as its record says."""
    told = {r.cell.seed: r.perplexity[protocol].value for r in records if protocol in r.perplexity}
    return [math.log(value) for value in told.values() if 0 < value < math.inf]


def _log_perplexities(side: Side, protocol: str) -> list[float]:
    """The logarithm of the perplexity of each seed, from its losses."""
    name = f"perplexity/{protocol}/"
    return [float(arrays[name + "losses"].sum() / arrays[name + "counts"].sum()) for arrays in side.arrays.values()]


def _altered(side: Side, protocol: str, name: str) -> list[str]:
    """Refusals of perplexities that do not follow from the losses beside the record."""
    found = []
    for record, log in zip(side.records, _log_perplexities(side, protocol), strict=False):
        told, value = record.perplexity[protocol].value, math.inf if log >= 700 else math.exp(log)
        if not np.isclose(told, value, rtol=VALUE_AGREES, equal_nan=True):
            found.append(f"{protocol}: {record.cell.id} in {name} says {told:.6g}, but its losses give {value:.6g}")
    return found


def accuracy_measures(sides: Sides, tolerance: float) -> Compared:
    base, head = sides[0].records[0], sides[1].records[0]
    old, new = ({column.task: (column, score) for column, score in task_scores(r).items()} for r in (base, head))
    digests = file_digests(base), file_digests(head)
    arrays = sides[0].arrays, sides[1].arrays
    stored = next(iter(arrays[0].values())), next(iter(arrays[1].values()))
    results: list[Measure | str] = []
    remarks = _only_in_head(old, new)
    for task in old:
        if task not in new:
            continue
        (before, score), (after, head_score) = old[task], new[task]
        if before != after:
            results.append(f"{task} is another task: {_differences(before, after)}")
        elif digests[0].get(task) != digests[1].get(task):
            results.append(f"{task} is another task: its files changed")
        elif not before.has_stored_answers and all(answers(side, task, before.metric) is None for side in stored):
            remarks.append(f"{task}: answers by {before.metric} are not kept, so that nothing tests it")
        elif (found := task_answers(task, before.metric, arrays)) is None:
            results.append(f"{task}: the answers were not kept on both sides, or are to other questions")
        else:
            change = accuracy_change(found[0], found[1])
            shares = [[float(array.mean()) for array in side.values()] for side in found]
            values = (
                (score.value, head_score.value)
                if len(shares[0]) == len(shares[1]) == 1
                else (float(np.mean(shares[0])), float(np.mean(shares[1])))
            )
            results.append(_measure("accuracy", task, values, change, tolerance, sides, pooled_spread(*shares)))
    return results + _only_in_base(old, new), remarks


def _only_in_base(base: Iterable[str], head: Container[str]) -> list[Measure | str]:
    """Refusals for measures that HEAD lacks: a gate must not pass because a measure disappeared."""
    return [f"{name} was measured in BASE alone" for name in base if name not in head]


def _only_in_head(base: Container[str], head: Iterable[str]) -> list[str]:
    return [f"{name} only in HEAD" for name in head if name not in base]


def _differences(base: Column, head: Column) -> str:
    names = ("metric", "shots", "questions", "version")
    pairs = {name: (getattr(base, name), getattr(head, name)) for name in names}
    return ", ".join(f"{name} {old} in BASE, {new} in HEAD" for name, (old, new) in pairs.items() if old != new)


def _measure(
    name: str, of: str, values: tuple[float, float], change: Change, tolerance: float, sides: Sides, spread: float
) -> Measure:
    """A measure; with other seeds on the two sides it has what decides whether anything can be told.

    Args:
        name, of, values, change, tolerance: see ``Measure``.
        sides: BASE and HEAD.
        spread: standard deviation between seeds, relative or as a fraction; NaN if unknown.
    """
    seeds = [{record.cell.seed for record in side.records} for side in sides]
    paired = sides[0].deterministic or seeds[0] == seeds[1]
    margin = 0.0 if paired else seed_margin(spread, len(seeds[0]), len(seeds[1]))
    return Measure(
        name,
        of,
        *values,
        change.value,
        change.low,
        change.high,
        change.p if math.isfinite(margin) else 1.0,
        tolerance,
        seed_margin=margin,
        seeds_needed=None if paired else seeds_needed(spread, tolerance),
    )
