"""Comparison of two results folders, cell by cell: what changed, and which changes are regressions.

A regression is a change for the worse that is both significant (paired test, false discovery rate controlled over the
whole comparison) and beyond a tolerance. Cells are matched by ``cell.key``; cells that cannot be compared are refused
with a reason.
"""

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.compare.verdict import ComparedCell, Comparison, Measure, Tolerances, Verdict
from prunebench.report.grouping import Setting, group_by
from prunebench.report.paired import PairedTests, answers
from prunebench.report.significance import FALSE_DISCOVERY_RATE, Change, benjamini_hochberg
from prunebench.report.tables.zero_shot import Column, task_scores

CHANGES_ALL = "all"  # a method that changes all parameters trains the model


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
    tests = PairedTests()
    cells = [
        _compare_cell(*_best_match(old, sides[1][key]), base_arrays, head_arrays, tests, tolerances)
        for key, old in sides[0].items()
        if key in sides[1]
    ]
    only = [tuple(records[-1] for key, records in sides[this].items() if key not in sides[1 - this]) for this in (0, 1)]
    return Comparison(_with_verdicts(cells), only[0], only[1], tolerances)


def _best_match(base: Sequence[Record], head: Sequence[Record]) -> tuple[Record, Record]:
    """Of several records of one key, the latest pair that can be compared, else the latest pair."""
    by_age = [sorted(side, key=lambda r: str(r.environment.get("started") or "")) for side in (base, head)]
    pairs = [(old, new) for old in reversed(by_age[0]) for new in reversed(by_age[1])]
    return next((pair for pair in pairs if not _incomparable(*pair)), pairs[0])


def _incomparable(base: Record, head: Record) -> tuple[str, ...]:
    """The reasons why two records of one key cannot be compared; empty if they can."""
    old, new = Setting.of(base), Setting.of(head)
    reasons = []
    for what, first, second in (
        ("the dense model has other weights", old.digest[:8], new.digest[:8]),
        ("the model ran in another format", old.dtype, new.dtype),
        ("the calibration text is another one", old.corpus_digest[:8], new.corpus_digest[:8]),
    ):
        if first != second:
            reasons.append(f"{what}: {first or 'unknown'} in BASE, {second or 'unknown'} in HEAD")
    return tuple(reasons)


def _compare_cell(
    base: Record,
    head: Record,
    base_arrays: ArrayStore,
    head_arrays: ArrayStore,
    tests: PairedTests,
    tolerances: Tolerances,
) -> ComparedCell:
    if refused := _incomparable(base, head):
        return ComparedCell(base, head, refused=refused)
    remarks = _different_settings(base, head)
    if "failed" in (base.status, head.status):
        failures = {("failed", "failed"): "failed on both sides", ("failed", "ok"): "failed in BASE, runs in HEAD"}
        failure = failures.get((base.status, head.status))
        return ComparedCell(base, head, remarks=(*remarks, failure) if failure else remarks)
    facts = (base.method, head.method)
    factor = tolerances.trained if any(fact and fact.changes == CHANGES_ALL for fact in facts) else 1.0
    measures, refusals = [], []
    arrays = [base_arrays.read(base)], [head_arrays.read(head)]
    for results, remark in (
        _perplexities(base, head, arrays, tests, tolerances.perplexity * factor),
        _accuracies(base, head, arrays, tests, tolerances.accuracy * factor),
    ):
        measures += [result for result in results if isinstance(result, Measure)]
        refusals += [result for result in results if isinstance(result, str)]
        remarks = (*remarks, *remark)
    if not measures and not refusals:
        refusals.append("nothing was measured on both sides")
    measures += _costs(base, head, tolerances)
    return ComparedCell(base, head, tuple(measures), tuple(refusals), remarks)


def _different_settings(base: Record, head: Record) -> tuple[str, ...]:
    """Options and calibration values that differ. They are not in the key, so that a changed default is compared."""
    differences = []
    stages = zip_longest(base.cell.stages, head.cell.stages)
    pairs = [(old.options if old else {}, new.options if new else {}) for old, new in stages]
    for old, new in (*pairs, (base.cell.calibration, head.cell.calibration)):
        names = [name for name in dict.fromkeys([*old, *new]) if name not in ("source", "digest")]
        differences += [f"{name} {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]
    return tuple(differences)


Arrays = tuple[list[Any], list[Any]]
Compared = tuple[list[Measure | str], list[str]]


def _perplexities(base: Record, head: Record, arrays: Arrays, tests: PairedTests, tolerance: float) -> Compared:
    texts = [
        {
            str(evaluation["protocol"]): evaluation.get("digest")
            for evaluation in record.cell.evaluations
            if "protocol" in evaluation
        }
        for record in (base, head)
    ]
    results: list[Measure | str] = []
    for protocol in base.perplexity:
        if protocol not in head.perplexity:
            continue
        old, new = (side.get(protocol) for side in texts)
        if old != new:
            results.append(f"{protocol} is another text: {str(old)[:8]} in BASE, {str(new)[:8]} in HEAD")
            continue
        change = tests.perplexity(protocol, *arrays)
        if change is None:
            results.append(f"{protocol}: the losses were not kept on both sides, or are of other sequences")
            continue
        values = (base.perplexity[protocol].value, head.perplexity[protocol].value)
        relative = replace(change, value=change.value - 1, low=change.low - 1, high=change.high - 1)
        results.append(_measure("perplexity", protocol, values, relative, tolerance))
    return results + _only_in_base(base.perplexity, head.perplexity), _only_in_head(base.perplexity, head.perplexity)


def _accuracies(base: Record, head: Record, arrays: Arrays, tests: PairedTests, tolerance: float) -> Compared:
    old, new = ({column.task: (column, score) for column, score in task_scores(r).items()} for r in (base, head))
    digests = _file_digests(base), _file_digests(head)
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
        elif not before.has_stored_answers and all(answers(side[0], task, before.metric) is None for side in arrays):
            remarks.append(f"{task}: answers by {before.metric} are not kept, so that nothing tests it")
        elif (change := tests.accuracy(task, before.metric, *arrays)) is None:
            results.append(f"{task}: the answers were not kept on both sides, or are to other questions")
        else:
            results.append(_measure("accuracy", task, (score.value, head_score.value), change, tolerance))
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


def _measure(name: str, of: str, values: tuple[float, float], change: Change, tolerance: float) -> Measure:
    return Measure(name, of, *values, change.value, change.low, change.high, change.p, tolerance)


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
        verdict = Verdict.UNCHANGED
        if p <= FALSE_DISCOVERY_RATE and abs(measure.change) > measure.tolerance:
            worse = (measure.change > 0) == larger_is_worse
            verdict = Verdict.REGRESSION if worse else Verdict.IMPROVEMENT
        return replace(measure, p=p, verdict=verdict)

    return tuple(replace(cell, measures=tuple(judge(measure) for measure in cell.measures)) for cell in cells)
