"""Comparison of two results folders, cell by cell: what changed, and which changes are regressions.

A regression is a change for the worse that is both significant (false discovery rate controlled over the whole
comparison) and beyond a tolerance. Cells are matched by ``cell.key`` and compared sequence by sequence. Where the two
folders have no seed of a cell in common, the means over the seeds of each are compared, with the spread between seeds
as part of the noise; if that leaves a regression possible, the verdict is that nothing can be told. Cells that cannot
be compared are refused with a reason.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.compare.matching import (
    best_match,
    different_settings,
    incomparable,
    with_other_seeds,
    without_seed,
)
from prunebench.report.compare.measures import Side, accuracy_measures, perplexity_measures
from prunebench.report.compare.verdict import ComparedCell, Comparison, Measure, Tolerances, Verdict
from prunebench.report.grouping import group_by
from prunebench.report.intervals import FALSE_DISCOVERY_RATE, benjamini_hochberg

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
    sides = Side(base, array_stores[0], deterministic), Side(head, array_stores[1], deterministic)
    alike = [r for r in spread if r.status == "ok" and not incomparable(r, new) and not different_settings(r, old)]
    for results, remark in (
        perplexity_measures(sides, tolerances.perplexity * factor, alike if factor > 1 else []),
        accuracy_measures(sides, tolerances.accuracy * factor),
    ):
        measures += [result for result in results if isinstance(result, Measure)]
        refusals += [result for result in results if isinstance(result, str)]
        remarks = (*remarks, *remark)
    if not measures and not refusals:
        refusals.append("nothing was measured on both sides")
    measures += _costs(old, new, tolerances)
    return ComparedCell(old, new, tuple(measures), tuple(refusals), remarks)


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
