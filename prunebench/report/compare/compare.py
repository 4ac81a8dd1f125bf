"""Comparison of two results folders, cell by cell: what changed, and which changes are regressions.

A regression is a change for the worse that is both significant (false discovery rate controlled over the whole
comparison) and beyond a tolerance. Cells are matched by ``cell.key`` and compared sequence by sequence. Where the two
folders have no seed of a cell in common, the means over the seeds of each are compared, with the spread between seeds
as part of the noise; if that leaves a regression possible, the verdict is that nothing can be told. Cells that cannot
be compared are refused with a reason.
"""

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.compare.matching import (
    best_match,
    different_settings,
    incomparable,
    with_other_seeds,
    without_seed,
)
from prunebench.report.compare.seed_spread import difference_of_runs, pooled_spread, seed_margin, seeds_needed
from prunebench.report.compare.verdict import ComparedCell, Comparison, Measure, Tolerances, Verdict
from prunebench.report.grouping import group_by
from prunebench.report.intervals import FALSE_DISCOVERY_RATE, Change, benjamini_hochberg
from prunebench.report.paired import BySeed, accuracy_change, answers, perplexity_change, task_answers
from prunebench.report.tables.zero_shot import Column, task_scores

CHANGES_ALL = "all"  # a method that changes all parameters trains the model
VALUE_AGREES = 1e-6  # relative; a perplexity and the mean of its losses are computed in float64


def compare_records(
    base: Sequence[Record],
    head: Sequence[Record],
    base_arrays: ArrayStore,
    head_arrays: ArrayStore,
    tolerances: Tolerances | None = None,
) -> Comparison:
    """Compare two folders of records.

    Args:
        base, head: the records of the reference folder and of the folder to judge.
        base_arrays, head_arrays: their arrays.
        tolerances: how much worse a measure may be without being a regression.
    """
    tolerances = tolerances or Tolerances()
    sides = [group_by(records, lambda record: record.cell.key) for records in (base, head)]
    stores = base_arrays, head_arrays
    of_cell = group_by(base, without_seed)
    pairs = [best_match(old, sides[1][key]) for key, old in sides[0].items() if key in sides[1]]
    cells = [_compare_cell([old], [new], stores, tolerances, of_cell[without_seed(old)]) for old, new in pairs]
    groups = with_other_seeds(base, head)
    cells += [_compare_cell(old, new, stores, tolerances, old) for old, new in groups]
    matched = {without_seed(old[0]) for old, _ in groups}
    only = [
        tuple(
            records[-1]
            for key, records in sides[this].items()
            if key not in sides[1 - this] and without_seed(records[0]) not in matched
        )
        for this in (0, 1)
    ]
    return Comparison(_with_verdicts(cells), only[0], only[1], tolerances)


def _compare_cell(
    base: Sequence[Record],
    head: Sequence[Record],
    array_stores: tuple[ArrayStore, ArrayStore],
    tolerances: Tolerances,
    spread: Sequence[Record],
) -> ComparedCell:
    """Compare the records of one cell: one of the same seed on each side, or those of all seeds.

    Args:
        base, head: the records; several, or of different seeds, are compared without pairing the seeds.
        array_stores: the arrays of both sides.
        tolerances: see ``compare_records``.
        spread: the records of all seeds of the cell in BASE.
    """
    old, new = base[0], next((record for record in head if record.status == "failed"), head[0])
    refused = dict.fromkeys(reason for pair in product(base, head) for reason in incomparable(*pair))
    if refused:
        return ComparedCell(old, new, refused=tuple(refused))
    seeds = [sorted(record.cell.seed for record in side) for side in (base, head)]
    remarks = different_settings(old, new)
    if seeds[0] != seeds[1]:
        listed = [", ".join(map(str, side)) for side in seeds]
        remarks = (*remarks, f"seeds {listed[0]} in BASE, {listed[1]} in HEAD: seeds are not paired")
    old = next((record for record in base if record.status == "failed"), old)
    if "failed" in (old.status, new.status):
        failures = {("failed", "failed"): "failed on both sides", ("failed", "ok"): "failed in BASE, runs in HEAD"}
        failure = failures.get((old.status, new.status))
        return ComparedCell(old, new, remarks=(*remarks, failure) if failure else remarks)
    facts = [record.method for record in (*base, *head)]
    factor = tolerances.trained if any(fact and fact.changes == CHANGES_ALL for fact in facts) else 1.0
    deterministic = all(fact is not None and not fact.takes_data for fact in facts)
    measures, refusals = [], []
    sides = _Side(base, array_stores[0], deterministic), _Side(head, array_stores[1], deterministic)
    known = _Side([r for r in spread if r.status == "ok"], array_stores[0], deterministic) if factor > 1 else None
    for results, remark in (
        _perplexities(sides, tolerances.perplexity * factor, known),
        _accuracies(sides, tolerances.accuracy * factor),
    ):
        measures += [result for result in results if isinstance(result, Measure)]
        refusals += [result for result in results if isinstance(result, str)]
        remarks = (*remarks, *remark)
    if not measures and not refusals:
        refusals.append("nothing was measured on both sides")
    measures += _costs(old, new, tolerances)
    return ComparedCell(old, new, tuple(measures), tuple(refusals), remarks)


@dataclass(frozen=True)
class _Side:
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


Sides = tuple[_Side, _Side]
Compared = tuple[list[Measure | str], list[str]]


def _perplexities(sides: Sides, tolerance: float, known: _Side | None) -> Compared:
    """Changes of perplexity.

    Args:
        sides: BASE and HEAD.
        tolerance: relative.
        known: the seeds of BASE, if the method may give another result with the same seed: their spread widens the
            tolerance.
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
        if known is not None and len(known.records) > 1:
            of_seeds = _log_perplexities(known, protocol)
            limit = max(limit, math.expm1(difference_of_runs(pooled_spread(of_seeds), len(of_seeds))))
        shown = math.exp(np.mean(values[0])), math.exp(np.mean(values[1]))
        results.append(_measure("perplexity", protocol, shown, relative, limit, sides, spread))
    names = [protocol for record in sides[1].records for protocol in record.perplexity]
    return results + _only_in_base(base.perplexity, names), _only_in_head(base.perplexity, dict.fromkeys(names))


def _log_perplexities(side: _Side, protocol: str) -> list[float]:
    """The logarithm of the perplexity of each seed, from its losses."""
    name = f"perplexity/{protocol}/"
    return [float(arrays[name + "losses"].sum() / arrays[name + "counts"].sum()) for arrays in side.arrays.values()]


def _altered(side: _Side, protocol: str, name: str) -> list[str]:
    """Refusals of perplexities that do not follow from the losses beside the record."""
    found = []
    for record, log in zip(side.records, _log_perplexities(side, protocol), strict=False):
        told, value = record.perplexity[protocol].value, math.inf if log >= 700 else math.exp(log)
        if not np.isclose(told, value, rtol=VALUE_AGREES, equal_nan=True):
            found.append(f"{protocol}: {record.cell.id} in {name} says {told:.6g}, but its losses give {value:.6g}")
    return found


def _accuracies(sides: Sides, tolerance: float) -> Compared:
    base, head = sides[0].records[0], sides[1].records[0]
    old, new = ({column.task: (column, score) for column, score in task_scores(r).items()} for r in (base, head))
    digests = _file_digests(base), _file_digests(head)
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


def _file_digests(record: Record) -> dict[str, list[str]]:
    """By task, the digest of its task files; a member of a group has those of all requested tasks."""
    requested = [evaluation for evaluation in record.cell.evaluations if "tasks" in evaluation]
    by_task = {str(task): [str(evaluation.get("digest"))] for evaluation in requested for task in evaluation["tasks"]}
    all_digests = sorted(str(evaluation.get("digest")) for evaluation in requested)
    return dict.fromkeys(map(str, record.zero_shot.get("results") or {}), all_digests) | by_task


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


def _costs(base: Record, head: Record, tolerances: Tolerances) -> list[Measure]:
    """Changes of time and memory; they have a tolerance only if both sides ran on the same machine."""
    same_machine = _machine(base) == _machine(head) and None not in _machine(base)
    measures = []
    for name, part, tolerance in (
        ("prune time", "prune_seconds", tolerances.time),
        ("peak memory", "peak_bytes", tolerances.memory),
    ):
        old, new = getattr(base.cost, part), getattr(head.cost, part)
        if old and new is not None:
            change = new / old - 1
            worse = same_machine and tolerance is not None and change > tolerance
            verdict = Verdict.REGRESSION if worse else Verdict.UNCHANGED
            measures.append(
                Measure(name, "", old, new, change, tolerance=tolerance if same_machine else None, verdict=verdict)
            )
    return measures


def _machine(record: Record) -> tuple[Any, ...]:
    return tuple(record.environment.get(part) for part in ("device", "threads", "platform"))


def _with_verdicts(cells: Sequence[ComparedCell]) -> tuple[ComparedCell, ...]:
    """Adjust the p-values of all measures together and give each measure its verdict."""
    tested = [measure.p for cell in cells for measure in cell.measures if not math.isnan(measure.p)]
    adjusted = iter(benjamini_hochberg(tested))

    def judge(measure: Measure) -> Measure:
        if math.isnan(measure.p) or measure.tolerance is None:
            return measure
        p = next(adjusted)
        larger_is_worse = measure.name != "accuracy"
        change_for_the_worse = measure.change if larger_is_worse else -measure.change
        verdict = Verdict.UNCHANGED
        if p <= FALSE_DISCOVERY_RATE and abs(measure.change) > measure.tolerance:
            verdict = Verdict.REGRESSION if change_for_the_worse > 0 else Verdict.IMPROVEMENT
        elif measure.seed_margin and (change_for_the_worse + measure.seed_margin) > measure.tolerance:
            verdict = Verdict.CANNOT_TELL
        return replace(measure, p=p, verdict=verdict)

    return tuple(replace(cell, measures=tuple(judge(measure) for measure in cell.measures)) for cell in cells)
