"""Output formats of a comparison: terminal tables, Markdown for pull requests, JUnit XML for CI, JSON."""

import math
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.compare.verdict import ComparedCell, Comparison, Measure, Verdict
from prunebench.report.output.text_tables import escape_markdown, to_markdown, to_terminal, wrapped
from prunebench.report.output.tidy import json_number
from prunebench.report.tables.table import Table

CELL_HEADERS = ("model", "method", "sparsity", "seed")


def headline(comparison: Comparison) -> str:
    """The outcome in one line."""
    counts = [
        (comparison.count(Verdict.REGRESSION), "regression"),
        (comparison.count(Verdict.IMPROVEMENT), "improvement"),
        (comparison.count(Verdict.CANNOT_TELL), "measure with too few seeds to tell"),
        (comparison.compared, "compared cell"),
        (comparison.refused, "refused cell"),
        (len(comparison.only_base), "cell only in BASE"),
        (len(comparison.only_head), "cell only in HEAD"),
    ]
    counted = [f"{count or 'no'} {_plural(what, count)}" for count, what in counts if count or what == "regression"]
    return ", ".join(counted)


def _plural(what: str, count: int) -> str:
    first, space, rest = what.partition(" ") if what.startswith(("cell ", "measure ")) else (what, "", "")
    rest = space + rest
    return f"{first}{'' if count == 1 else 's'}{rest}"


def tolerance_text(comparison: Comparison) -> str:
    """The tolerances in a sentence."""
    tolerances = comparison.tolerances
    limits = (("prune time", tolerances.time), ("peak memory", tolerances.memory))
    costs = [f"{name} {_percent(limit)}" for name, limit in limits if limit is not None]
    return (
        f"Tolerances: perplexity {_percent(tolerances.perplexity)}, accuracy {100 * tolerances.accuracy:.4g} points, "
        f"{tolerances.trained:g} times that for methods that train; "
        f"{', '.join(costs) + ' on one machine' if costs else 'time and memory are shown only'}. "
        "A regression is significant (paired tests, false discoveries below 5 %) and beyond its tolerance"
    )


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Tables of regressions, improvements, all changes, refusals, cells on one side only, and other differences."""
    regressions, improvements, unclear = (
        _verdict_table(comparison, verdict)
        for verdict in (Verdict.REGRESSION, Verdict.IMPROVEMENT, Verdict.CANNOT_TELL)
    )
    refused = Table(
        "Refused: not comparable",
        (*CELL_HEADERS, "why"),
        tuple((*_cell_entries(cell.head), reason) for cell in comparison.cells for reason in cell.refused),
    )
    unmatched = Table(
        "On one side only",
        (*CELL_HEADERS, "side"),
        tuple(
            (*_cell_entries(record), side)
            for side, records in (("BASE", comparison.only_base), ("HEAD", comparison.only_head))
            for record in records
        ),
    )
    remarks = Table(
        "What else differs",
        (*CELL_HEADERS, "what"),
        tuple((*_cell_entries(cell.head), remark) for cell in comparison.cells for remark in cell.remarks),
    )
    return [
        table
        for table in (regressions, improvements, unclear, _change_table(comparison), refused, unmatched, remarks)
        if table.rows
    ]


def _verdict_table(comparison: Comparison, verdict: Verdict) -> Table:
    rows = [
        (*_cell_entries(cell.head), *_measure_row(measure))
        for cell in comparison.cells
        for measure in cell.with_verdict(verdict)
    ]
    if verdict is Verdict.REGRESSION:
        rows += [
            (*_cell_entries(cell.head), "runs", "ok", "failed", _failure(cell), "", "")
            for cell in comparison.cells
            if cell.newly_failed
        ]
    if verdict is Verdict.CANNOT_TELL:
        return Table(
            "Cannot tell: the two sides have other seeds, and too few of them",
            (*CELL_HEADERS, "measure", "BASE", "HEAD", "change (95 % interval)", "tolerance", "seeds that would tell"),
            tuple(
                (*_cell_entries(cell.head), *_measure_row(measure)[:4], _measure_row(measure)[5], _would_tell(measure))
                for cell in comparison.cells
                for measure in cell.with_verdict(verdict)
            ),
        )
    return Table(
        f"{verdict.capitalize()}s",
        (*CELL_HEADERS, "measure", "BASE", "HEAD", "change (95 % interval)", "p", "tolerance"),
        tuple(rows),
    )


def _would_tell(measure: Measure) -> str:
    """How many seeds on each side would show a change beyond the tolerance."""
    if math.isinf(measure.seed_margin):
        return "unknown; three on each side show the spread"
    return "more than 1000 on each side" if measure.seeds_needed is None else f"{measure.seeds_needed} on each side"


def _failure(cell: ComparedCell) -> str:
    error = cell.head.error
    return f"{error.type}: {error.message}" if error else "failed"


def _measure_row(measure: Measure) -> tuple[str, ...]:
    name = f"{measure.name} {measure.of}".rstrip()
    shown = shown_change(measure)
    if not math.isnan(measure.low):
        shown += f" ({shown_change(measure, measure.low)} to {shown_change(measure, measure.high)})"
    p = "" if math.isnan(measure.p) else f"{measure.p:.2g}"
    tolerance = "" if measure.tolerance is None else _amount(measure, measure.tolerance).removeprefix("+")
    return name, shown_value(measure, measure.base), shown_value(measure, measure.head), shown, p, tolerance


def _change_table(comparison: Comparison) -> Table:
    """A row for each cell and a column for each measure; regressions and improvements are marked."""
    cells = [cell for cell in comparison.cells if cell.measures]
    columns = list(dict.fromkeys((measure.name, measure.of) for cell in cells for measure in cell.measures))
    columns.sort(key=lambda column: not column[1])  # costs last
    rows, marked = [], set()
    for row, cell in enumerate(cells):
        by_column = {(measure.name, measure.of): measure for measure in cell.measures}
        rows.append(
            (
                *_cell_entries(cell.head),
                *(shown_change(by_column[c]) if c in by_column else text.MISSING for c in columns),
            )
        )
        marked |= {
            (row, len(CELL_HEADERS) + index)
            for index, column in enumerate(columns)
            if column in by_column and by_column[column].verdict in (Verdict.REGRESSION, Verdict.IMPROVEMENT)
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


def shown_value(measure: Measure, value: float) -> str:
    """One side's value in its unit; an accuracy in percent."""
    if measure.name == "accuracy":
        return f"{100 * value:.1f}"
    show = {"prune time": text.seconds, "peak memory": text.size}.get(measure.name, text.number)
    return show(value)


def shown_change(measure: Measure, value: float | None = None) -> str:
    """A change in percent or points; by default the measure's own."""
    return _amount(measure, measure.change if value is None else value)


def _amount(measure: Measure, value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    shown = f"{100 * value + 0.0:+.1f}" if abs(value) < 9.995 else f"{100 * value:+.2g}"
    return f"{'+0.0' if shown == '-0.0' else shown} {'points' if measure.name == 'accuracy' else '%'}"


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def comparison_to_terminal(comparison: Comparison, width: int) -> str:
    """Tables, tolerances, and the outcome at the end, where one looks first on a terminal."""
    tables = to_terminal(comparison_tables(comparison), width)
    sentences = (wrapped(words, width) for words in (f"{tolerance_text(comparison)}.", headline(comparison)))
    return "\n\n".join(part for part in (tables, *sentences) if part)


def comparison_to_markdown(comparison: Comparison) -> str:
    """A comment for a pull request: the outcome, regressions and improvements; the table of all changes is folded."""
    tables = comparison_tables(comparison)
    long = [table for table in tables if table.caption.startswith("Changes")]
    short = [table for table in tables if table not in long]
    parts = [f"### prunebench compare: {headline(comparison)}", to_markdown(short)]
    if long:
        parts.append(f"<details><summary>All changes</summary>\n\n{to_markdown(long)}\n\n</details>")
    return "\n\n".join(part for part in (*parts, f"{escape_markdown(tolerance_text(comparison))}.") if part)


def comparison_to_junit(comparison: Comparison) -> str:
    """JUnit XML with a test case for each cell: regressions fail, refusals are errors, unmatched cells are skipped."""
    unmatched = (*comparison.only_base, *comparison.only_head)
    failures = [cell for cell in comparison.cells if cell.newly_failed or cell.with_verdict(Verdict.REGRESSION)]
    errors = [cell for cell in comparison.cells if cell.refused and cell not in failures]
    skipped = [cell for cell in comparison.cells if not cell.measures and cell not in failures and cell not in errors]
    suite = ElementTree.Element(
        "testsuite",
        name="prunebench compare",
        tests=str(len(comparison.cells) + len(unmatched)),
        failures=str(len(failures)),
        errors=str(len(errors)),
        skipped=str(len(unmatched) + len(skipped)),
    )
    for cell in comparison.cells:
        case = _test_case(suite, cell.head)
        if cell in failures:
            _add_message(case, "failure", _regression_lines(cell))
        elif cell.refused:
            _add_message(case, "error", cell.refused)
        elif cell in skipped:
            _add_message(case, "skipped", cell.remarks)
    for side, records in (("BASE", comparison.only_base), ("HEAD", comparison.only_head)):
        for record in records:
            _add_message(_test_case(suite, record), "skipped", [f"only in {side}"])
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _regression_lines(cell: ComparedCell) -> list[str]:
    if cell.newly_failed:
        return [f"failed in HEAD: {_failure(cell)}"]
    rows = [_measure_row(measure) for measure in cell.with_verdict(Verdict.REGRESSION)]
    return [f"{name}: {base} → {head}, {change}" for name, base, head, change, *_ in rows]


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


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """The whole comparison as strict JSON."""

    def measure_of(measure: Measure) -> dict[str, Any]:
        return {name: json_number(value) for name, value in vars(measure).items()}

    return {
        "exit_code": comparison.exit_code,
        "summary": headline(comparison),
        "tolerances": vars(comparison.tolerances),
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
            for cell in comparison.cells
        ],
        "only_base": [list(record.cell.key) for record in comparison.only_base],
        "only_head": [list(record.cell.key) for record in comparison.only_head],
    }
