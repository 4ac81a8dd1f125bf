"""A reproduction: published figures, ours, and whether both agree as nearly as was stated before."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prunebench import text
from prunebench.records.record import PublishedFigure, Record
from prunebench.report.grouping import group_by
from prunebench.report.tables.table import Table

PASS, FAIL, NOT_MEASURED = "pass", "FAIL", "not measured"


@dataclass(frozen=True)
class Reproduced:
    """One published figure beside ours.

    Args:
        model, method, sparsity, protocol: of both.
        allocation: of our cells.
        ours: mean perplexity over seeds; None where no cell ran well.
        published: the published perplexity, as it was printed.
        theirs: the same without the exponent that their code has, as ``PublishedFigure.comparable``.
        ratio: ours over theirs.
        tolerance: the part of theirs by which ours may differ.
        verdict: one of ``PASS``, ``FAIL`` and ``NOT_MEASURED``.
        source: where it was published.
        note: what else is known of it, as that it was read off a figure.
        cells: ids of our cells.
    """

    model: str
    method: str
    sparsity: str
    allocation: str
    protocol: str
    ours: float | None
    published: float
    theirs: float
    ratio: float | None
    tolerance: float
    verdict: str
    source: str
    note: str
    cells: tuple[str, ...]


def reproductions(records: Iterable[Record]) -> list[Reproduced]:
    """Every published figure that states a tolerance and was measured by a protocol that is known here."""
    found = []
    groups = group_by(records, lambda record: record.cell.key[:4])  # all but seed and calibration text
    for cells in groups.values():
        figures = dict.fromkeys(figure for record in cells for figure in record.cell.published)
        found += [_reproduced(cells, figure) for figure in figures if figure.tolerance and figure.protocol]
    return found


def _reproduced(records: Sequence[Record], figure: PublishedFigure) -> Reproduced:
    protocol, tolerance, cell = str(figure.protocol), float(figure.tolerance or 0), records[0].cell
    values = [record.perplexity[protocol].value for record in records if protocol in record.perplexity]
    ours = statistics.fmean(values) if values and len(values) == len(records) else None
    ratio = None if ours is None else ours / figure.comparable
    verdict = NOT_MEASURED if ratio is None else PASS if abs(ratio - 1) <= tolerance else FAIL
    return Reproduced(
        model=cell.model,
        method=cell.method,
        sparsity=cell.sparsity,
        allocation=cell.allocation,
        protocol=protocol,
        ours=ours,
        published=figure.perplexity,
        theirs=figure.comparable,
        ratio=ratio,
        tolerance=tolerance,
        verdict=verdict,
        source=figure.source,
        note=figure.note or "",
        cells=tuple(record.cell.id for record in records),
    )


def reproduction_table(rows: Sequence[Reproduced]) -> Table:
    """Published, ours, ratio, and pass or fail."""
    passed = sum(row.verdict == PASS for row in rows)
    return Table(
        f"Reproduction of published perplexities: {passed} of {len(rows)} pass",
        ("model", "method", "sparsity", "measured on", "theirs", "ours", "ratio", "may differ by", "verdict", "source"),
        tuple(
            (
                row.model,
                row.method,
                row.sparsity if row.allocation == "uniform" else f"{row.sparsity} {row.allocation}",
                row.protocol,
                text.number(row.theirs),
                text.MISSING if row.ours is None else text.number(row.ours),
                text.MISSING if row.ratio is None else f"{row.ratio:.3f}",
                f"{row.tolerance:.0%}",
                row.verdict,
                f"{row.source} ({row.note})" if row.note else row.source,
            )
            for row in rows
        ),
    )


def reproduction_json(
    name: str, rows: Sequence[Reproduced], records: Sequence[Record], *, complete: bool
) -> dict[str, Any]:
    """All of it as plain JSON, to be sent in: the rows, and on what they were measured.

    Args:
        name: of the suite.
        rows: figures and verdicts.
        records: on which they rest.
        complete: whether all cells and trials that were asked for ran well; else it has not passed.
    """
    return {
        "format": "prunebench reproduction 1",
        "suite": name,
        "passed": complete and bool(rows) and all(row.verdict == PASS for row in rows),
        "complete": complete,
        "figures": [{key: _json_number(value) for key, value in asdict(row).items()} for row in rows],
        "environments": {record.cell.id: record.environment for record in records},
    }


def _json_number(value: object) -> object:
    """A value as JSON has it: perplexities may be infinite or NaN, which become text as in records."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
