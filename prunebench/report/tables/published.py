"""Table of published figures beside our own."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prunebench import text
from prunebench.records.record import PublishedFigure, Record
from prunebench.report import budgets
from prunebench.report.grouping import DENSE, Setting, group_by
from prunebench.report.tables.table import Table

HEADERS = (
    "model",
    "method",
    *budgets.HEADERS,
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
    """Our figure, the published one, their ratio, and whether both have the same protocol.

    Figures of one corpus under different protocols are shown too, marked as not comparable.

    Args:
        records: those to show; see ``prunebench.report.grouping.latest_records``. Seeds are averaged, settings are not.
    """
    with_figures = [record for record in records if record.cell.published]
    rows: list[tuple[str, ...]] = []
    groups = group_by(with_figures, lambda record: (Setting.of(record), record.cell.method, record.cell.sparsity))
    settings = list(dict.fromkeys(setting for setting, _, _ in groups))
    for (setting, _, sparsity), cells in groups.items():
        # Nothing is calibrated where nothing is pruned.
        description = (replace(setting, corpus="") if sparsity == DENSE else setting).describe(settings)
        for figure in dict.fromkeys(figure for record in cells for figure in record.cell.published):
            rows += _rows(cells, figure, description)
    return Table("Published figures beside ours", HEADERS, tuple(rows))


def _rows(records: Sequence[Record], figure: PublishedFigure, setting: str) -> list[tuple[str, ...]]:
    cell = records[0].cell
    measured = dict.fromkeys(protocol for record in records for protocol in record.perplexity)
    same_protocol = [protocol for protocol in measured if protocol == figure.protocol]
    same_corpus = [protocol for protocol in measured if protocol.partition("/")[0] == figure.corpus]
    published_text = f"{figure.corpus}, {figure.seqlen} tokens" if figure.seqlen else figure.corpus
    rows: list[tuple[str, ...]] = []
    for protocol in same_protocol or same_corpus or [""]:
        ours, verdict = None, "not measured here"
        if protocol:
            ours = statistics.fmean(r.perplexity[protocol].value for r in records if protocol in r.perplexity)
            verdict = "yes" if same_protocol else f"no: theirs is {figure.protocol or published_text}"
        rows.append(
            (
                cell.model,
                cell.method,
                *budgets.columns_of(records),
                cell.sparsity,
                protocol or published_text,
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
