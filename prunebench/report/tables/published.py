"""Table of published figures beside our own."""

import statistics
from collections.abc import Sequence

from prunebench import text
from prunebench.records.published_figures import dense_disagreements, measure_of
from prunebench.records.record import PublishedFigure, Record
from prunebench.report import budgets
from prunebench.report.grouping import DENSE
from prunebench.report.scene import Scene
from prunebench.report.tables.table import Table, caption

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


def published_table(scenes: Sequence[Scene]) -> Table:
    """Our figure, the published one, their ratio, and whether both have the same protocol.

    Figures of one corpus under different protocols are shown too, marked as not comparable. Where several sources
    measured the same, a row after theirs has the lowest and the highest; that sources disagree on a dense model, which
    cannot be, stands in the caption. The ratio is to what theirs would be with our exponent, where theirs is another.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``. Seeds are averaged, settings are not.
    """
    rows, wrong = list[tuple[str, ...]](), dict[str, None]()
    for scene in scenes:
        for (_, sparsity), cells in scene.where(lambda record: bool(record.cell.published)).rows.items():
            description = scene.dense_description if sparsity == DENSE else scene.description
            figures = list(dict.fromkeys(figure for record in cells for figure in record.cell.published))
            for same in _by_measure(figures):
                for figure in same:
                    rows += _rows(cells, [figure], description)
                if len(same) > 1:
                    rows += _rows(cells, same, description)
            if sparsity == DENSE:
                wrong |= dict.fromkeys(f"{scene.model}, dense: {found}" for found in dense_disagreements(figures))
    told = f"sources disagree on {'; '.join(wrong)}" if wrong else ""
    # A dense model stands in each setting of its model, and is shown once.
    return Table(caption("Published figures beside ours", told), HEADERS, tuple(dict.fromkeys(rows)))


def _by_measure(figures: Sequence[PublishedFigure]) -> list[list[PublishedFigure]]:
    """Figures that may be compared with each other; one of which too little is known is alone."""
    groups: dict[object, list[PublishedFigure]] = {}
    for figure in figures:
        measure = measure_of(figure)
        groups.setdefault(id(figure) if measure is None else measure, []).append(figure)
    return list(groups.values())


def _rows(records: Sequence[Record], figures: Sequence[PublishedFigure], setting: str) -> list[tuple[str, ...]]:
    """A row for each protocol that a figure, or the spread of several that measured the same, is shown beside."""
    cell, figure = records[0].cell, figures[0]
    measured = dict.fromkeys(protocol for record in records for protocol in record.perplexity)
    same_protocol = [protocol for protocol in measured if protocol == figure.protocol]
    same_corpus = [protocol for protocol in measured if protocol.partition("/")[0] == figure.corpus]
    published_text = f"{figure.corpus}, {figure.seqlen} tokens" if figure.seqlen else figure.corpus
    lowest, highest = min(f.comparable for f in figures), max(f.comparable for f in figures)
    theirs, source, note = text.number(figure.perplexity), figure.source, figure.note
    if several := len(figures) > 1:
        theirs = f"{text.number(lowest)} to {text.number(highest)}"
        source, note = f"{len(figures)} sources", f"spread {highest / lowest - 1:.1%}"
    elif figure.exponent:
        told = f"their exponent is {figure.exponent} of ours, with which it would be {text.number(lowest)}"
        note = f"{told}; {note}" if note else told
    rows: list[tuple[str, ...]] = []
    for protocol in same_protocol or same_corpus or [""]:
        ours, ratio, verdict = text.MISSING, text.MISSING, "not measured here"
        if protocol:
            value = statistics.fmean(r.perplexity[protocol].value for r in records if protocol in r.perplexity)
            ours, ratio = text.number(value), f"{value / lowest:.3f}"
            if several:
                ratio = f"{value / highest:.3f} to {ratio}"
            verdict = "yes" if same_protocol else f"no: theirs is {figure.protocol or published_text}"
            if same_protocol and figure.exponent and not several:
                verdict += ", but for the exponent"
        rows.append(
            (
                cell.model,
                cell.method,
                *budgets.columns_of(records),
                cell.sparsity,
                protocol or published_text,
                ours,
                theirs,
                ratio,
                verdict,
                setting,
                source,
                note,
            )
        )
    return rows
