"""Figures that others published, beside ours."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prunebench import text
from prunebench.records.record import PublishedFigure, Record
from prunebench.report.grouping import DENSE, Setting, group_by
from prunebench.report.tables.table import Table

HEADERS = (
    "model",
    "method",
    "sparsity",
    "measured on",
    "ours",
    "theirs",
    "ratio",
    "same protocol",
    "our setting",
    "source",
    "note",
)


def published_table(records: Iterable[Record]) -> Table:
    """Ours, theirs, the ratio, and whether the two were measured the same way.

    Figures of one corpus under two protocols stand beside each other too, and are said not to compare.

    Args:
        records: those to show; see ``prunebench.report.grouping.latest_records``. Seeds are averaged, settings are not.
    """
    told = [record for record in records if record.cell.published]
    rows: list[tuple[str, ...]] = []
    groups = group_by(told, lambda record: (Setting.of(record), record.cell.method, record.cell.sparsity))
    settings = list(dict.fromkeys(setting for setting, _, _ in groups))
    for (setting, _, sparsity), cells in groups.items():
        # Nothing is calibrated where nothing is pruned.
        words = (replace(setting, corpus="") if sparsity == DENSE else setting).describe(settings)
        for figure in dict.fromkeys(figure for record in cells for figure in record.cell.published):
            rows += _rows(cells, figure, words)
    return Table("Published figures beside ours", HEADERS, tuple(rows))


def _rows(records: Sequence[Record], figure: PublishedFigure, setting: str) -> list[tuple[str, ...]]:
    cell = records[0].cell
    measured = dict.fromkeys(protocol for record in records for protocol in record.perplexity)
    same = [protocol for protocol in measured if protocol == figure.protocol]
    alike = [protocol for protocol in measured if protocol.partition("/")[0] == figure.corpus]
    theirs = f"{figure.corpus}, {figure.seqlen} tokens" if figure.seqlen else figure.corpus
    rows: list[tuple[str, ...]] = []
    for protocol in same or alike or [""]:
        ours, verdict = None, "not measured here"
        if protocol:
            ours = statistics.fmean(r.perplexity[protocol].value for r in records if protocol in r.perplexity)
            verdict = "yes" if same else f"no: theirs is {figure.protocol or theirs}"
        rows.append(
            (
                cell.model,
                cell.method,
                cell.sparsity,
                protocol or theirs,
                text.MISSING if ours is None else text.number(ours),
                text.number(figure.perplexity),
                text.MISSING if ours is None else f"{ours / figure.perplexity:.3f}",
                verdict,
                setting,
                figure.source,
                figure.note,
            )
        )
    return rows
