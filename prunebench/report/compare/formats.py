"""A comparison as text: tables for a terminal, Markdown for a pull request, JUnit XML for a CI, JSON for programs."""

import math
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.compare.verdict import ComparedCell, Comparison, Measure, Verdict
from prunebench.report.output.text_tables import escape_markdown, to_markdown, to_terminal
from prunebench.report.output.tidy import json_number
from prunebench.report.tables.table import Table

CELL_HEADERS = ("model", "method", "sparsity", "seed")


def headline(found: Comparison) -> str:
    """The outcome in one line."""
    counts = [
        (found.count(Verdict.REGRESSION), "regression"),
        (found.count(Verdict.IMPROVEMENT), "improvement"),
        (found.compared, "compared cell"),
        (found.refused, "refused cell"),
        (len(found.only_base), "cell only in BASE"),
        (len(found.only_head), "cell only in HEAD"),
    ]
    words = [f"{count or 'no'} {_plural(what, count)}" for count, what in counts if count or what == "regression"]
    return ", ".join(words)


def _plural(what: str, count: int) -> str:
    first, rest = (what[:4], what[4:]) if what.startswith("cell ") else (what, "")
    return f"{first}{'' if count == 1 else 's'}{rest}"


def tolerance_text(found: Comparison) -> str:
    """What was held against what."""
    asked = found.tolerances
    limits = (("prune time", asked.time), ("peak memory", asked.memory))
    costs = [f"{name} {_percent(limit)}" for name, limit in limits if limit is not None]
    return (
        f"Tolerances: perplexity {_percent(asked.perplexity)}, accuracy {100 * asked.accuracy:.4g} points, "
        f"{asked.trained:g} times that for methods that train; "
        f"{', '.join(costs) + ' on one machine' if costs else 'time and memory are shown only'}. "
        "A regression is significant (paired tests, false discoveries below 5 %) and beyond its tolerance"
    )


def comparison_tables(found: Comparison) -> list[Table]:
    """Regressions, improvements, all changes, what was refused, what is on one side, settings that differ."""
    worse, better = (_judged_table(found, verdict) for verdict in (Verdict.REGRESSION, Verdict.IMPROVEMENT))
    refused = Table(
        "Refused: not comparable",
        (*CELL_HEADERS, "why"),
        tuple((*_cell_entries(cell.head), reason) for cell in found.cells for reason in cell.refused),
    )
    single = Table(
        "On one side only",
        (*CELL_HEADERS, "side"),
        tuple(
            (*_cell_entries(record), side)
            for side, records in (("BASE", found.only_base), ("HEAD", found.only_head))
            for record in records
        ),
    )
    remarks = Table(
        "What else differs",
        (*CELL_HEADERS, "what"),
        tuple((*_cell_entries(cell.head), remark) for cell in found.cells for remark in cell.remarks),
    )
    return [table for table in (worse, better, _change_table(found), refused, single, remarks) if table.rows]


def _judged_table(found: Comparison, verdict: Verdict) -> Table:
    rows = [
        (*_cell_entries(cell.head), *_measure_row(measure)) for cell in found.cells for measure in cell.judged(verdict)
    ]
    if verdict is Verdict.REGRESSION:
        rows += [
            (*_cell_entries(cell.head), "runs", "ok", "failed", _failure(cell), "", "")
            for cell in found.cells
            if cell.newly_failed
        ]
    return Table(
        f"{verdict.capitalize()}s",
        (*CELL_HEADERS, "measure", "BASE", "HEAD", "change (95 % interval)", "p", "tolerance"),
        tuple(rows),
    )


def _failure(cell: ComparedCell) -> str:
    error = cell.head.error
    return f"{error.type}: {error.message}" if error else "failed"


def _measure_row(measure: Measure) -> tuple[str, ...]:
    name = f"{measure.name} {measure.of}".rstrip()
    shown = _change(measure)
    if not math.isnan(measure.low):
        shown += f" ({_change(measure, measure.low)} to {_change(measure, measure.high)})"
    p = "" if math.isnan(measure.p) else f"{measure.p:.2g}"
    tolerance = "" if measure.tolerance is None else _amount(measure, measure.tolerance).removeprefix("+")
    return name, _value(measure, measure.base), _value(measure, measure.head), shown, p, tolerance


def _change_table(found: Comparison) -> Table:
    """A row for each cell, a column for each measure; judged ones are marked."""
    cells = [cell for cell in found.cells if cell.measures]
    columns = list(dict.fromkeys((measure.name, measure.of) for cell in cells for measure in cell.measures))
    columns.sort(key=lambda column: not column[1])  # costs last
    rows, marked = [], set()
    for row, cell in enumerate(cells):
        by_column = {(measure.name, measure.of): measure for measure in cell.measures}
        rows.append(
            (*_cell_entries(cell.head), *(_change(by_column[c]) if c in by_column else text.MISSING for c in columns))
        )
        marked |= {
            (row, len(CELL_HEADERS) + place)
            for place, column in enumerate(columns)
            if column in by_column and by_column[column].verdict is not Verdict.UNCHANGED
        }
    note = "; marked: regressions and improvements" if marked else ""
    return Table(
        f"Changes from BASE to HEAD{note}",
        (*CELL_HEADERS, *(of or name for name, of in columns)),
        tuple(rows),
        frozenset(marked),
    )


def _cell_entries(record: Record) -> tuple[str, ...]:
    cell = record.cell
    return cell.model, cell.method, cell.sparsity, str(cell.seed)


def _value(measure: Measure, value: float) -> str:
    if measure.name == "accuracy":
        return f"{100 * value:.1f}"
    show = {"prune time": text.seconds, "peak memory": text.size}.get(measure.name, text.number)
    return show(value)


def _change(measure: Measure, value: float | None = None) -> str:
    return _amount(measure, measure.change if value is None else value)


def _amount(measure: Measure, value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    shown = f"{100 * value + 0.0:+.1f}" if abs(value) < 9.995 else f"{100 * value:+.2g}"
    return f"{'+0.0' if shown == '-0.0' else shown} {'points' if measure.name == 'accuracy' else '%'}"


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def comparison_to_terminal(found: Comparison, width: int) -> str:
    """The tables, what was held against what, and the outcome at the end, where one looks first."""
    tables = to_terminal(comparison_tables(found), width)
    return "\n\n".join(part for part in (tables, f"{tolerance_text(found)}.", headline(found)) if part)


def comparison_to_markdown(found: Comparison) -> str:
    """A comment for a pull request: the outcome and what was judged; the long table is folded."""
    tables = comparison_tables(found)
    long = [table for table in tables if table.caption.startswith("Changes")]
    short = [table for table in tables if table not in long]
    parts = [f"### prunebench compare: {headline(found)}", to_markdown(short)]
    if long:
        parts.append(f"<details><summary>All changes</summary>\n\n{to_markdown(long)}\n\n</details>")
    return "\n\n".join(part for part in (*parts, f"{escape_markdown(tolerance_text(found))}.") if part)


def comparison_to_junit(found: Comparison) -> str:
    """A test case for each cell: a regression is a failure, a refusal an error, what has no other side is skipped."""
    single = (*found.only_base, *found.only_head)
    failures = [cell for cell in found.cells if cell.newly_failed or cell.judged(Verdict.REGRESSION)]
    errors = [cell for cell in found.cells if cell.refused and cell not in failures]
    skipped = [cell for cell in found.cells if not cell.measures and cell not in failures and cell not in errors]
    suite = ElementTree.Element(
        "testsuite",
        name="prunebench compare",
        tests=str(len(found.cells) + len(single)),
        failures=str(len(failures)),
        errors=str(len(errors)),
        skipped=str(len(single) + len(skipped)),
    )
    for cell in found.cells:
        case = _test_case(suite, cell.head)
        if cell in failures:
            _add_message(case, "failure", _regression_lines(cell))
        elif cell.refused:
            _add_message(case, "error", cell.refused)
        elif cell in skipped:
            _add_message(case, "skipped", cell.remarks)
    for side, records in (("BASE", found.only_base), ("HEAD", found.only_head)):
        for record in records:
            _add_message(_test_case(suite, record), "skipped", [f"only in {side}"])
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _regression_lines(cell: ComparedCell) -> list[str]:
    if cell.newly_failed:
        return [f"failed in HEAD: {_failure(cell)}"]
    words = [_measure_row(measure) for measure in cell.judged(Verdict.REGRESSION)]
    return [f"{name}: {base} → {head}, {change}" for name, base, head, change, *_ in words]


def _test_case(suite: ElementTree.Element, record: Record) -> ElementTree.Element:
    model, method, sparsity, seed, corpus = (
        text.printable(part) for part in (*_cell_entries(record), record.cell.calibration.get("corpus", ""))
    )
    return ElementTree.SubElement(
        suite, "testcase", classname=model, name=f"{method} {sparsity} seed {seed} calibrated on {corpus}"
    )


def _add_message(case: ElementTree.Element, kind: str, lines: Iterable[str]) -> None:
    plain = [text.printable(line) for line in lines]
    ElementTree.SubElement(case, kind, message="; ".join(plain)).text = "\n".join(plain)


def comparison_to_json(found: Comparison) -> dict[str, Any]:
    """Everything, as strict JSON has it."""

    def measure_of(measure: Measure) -> dict[str, Any]:
        return {name: json_number(value) for name, value in vars(measure).items()}

    return {
        "exit_code": found.exit_code,
        "summary": headline(found),
        "tolerances": vars(found.tolerances),
        "cells": [
            {
                "key": list(cell.head.cell.key),
                "base": cell.base.cell.id,
                "head": cell.head.cell.id,
                "failed": _failure(cell) if cell.newly_failed else None,
                "measures": [measure_of(measure) for measure in cell.measures],
                "refused": list(cell.refused),
                "remarks": list(cell.remarks),
            }
            for cell in found.cells
        ],
        "only_base": [list(record.cell.key) for record in found.only_base],
        "only_head": [list(record.cell.key) for record in found.only_head],
    }
