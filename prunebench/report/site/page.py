"""The page of a site: all leaderboards as HTML that loads nothing from elsewhere, with every name escaped."""

import math
from collections.abc import Sequence
from importlib.resources import files
from itertools import chain

from prunebench import text
from prunebench.report.grouping import sparsity_order
from prunebench.report.output.one_file import render, shared
from prunebench.report.site.boards import Board, Row, boards, failures
from prunebench.report.site.gather import Source
from prunebench.report.site.recipe import command, foreign_code

GENERATOR = "prunebench site"
RECORDS = "records"


def to_page(sources: Sequence[Source], title: str, *, reports: bool = False) -> str:
    """The leaderboards as HTML; the same records give the same bytes.

    Args:
        sources: the folders.
        title: the page's heading.
        reports: whether a report of each folder lies beside the page, in ``reports/``.
    """
    own = files("prunebench.report.site") / "templates"
    template, style, script = (
        (own / name).read_text(encoding="utf-8") for name in ("site.html.j2", "site.css", "site.js")
    )
    found = boards(sources)
    return render(
        template,
        shared("report.css") + style,
        script,
        sort_key=_sort_key,
        path=record_path,
        command=lambda row: command(row.record, f"{record_path(row)}.yaml"),
        foreign_code=foreign_code,
        headings=_headings,
        title=title,
        generator=GENERATOR,
        boards=found,
        failures=failures(sources),
        folders=[(source, _facts(source)) for source in sources],
        tiles=_tiles(sources),
        filters=_filters(found),
        reports=reports,
    )


def record_path(row: Row) -> str:
    """Where the copy of a row's record lies in the site, without its suffix."""
    return f"{RECORDS}/{row.source.name}/{row.record.cell.id}"


def _headings(board: Board) -> list[tuple[str, bool]]:
    """Headings and whether their columns are numbers."""
    times = [("times dense", True)] if board.measure == "perplexity" else []
    return [
        *(("method", False), ("sparsity", True), (board.measure, True), ("±", True), *times, ("model", False)),
        *(("budget", False), ("seed", True), ("folder", False), ("record", False)),
    ]


def _sort_key(entry: str) -> str:
    value = text.sort_key(entry)
    return "" if value is None else "Infinity" if value == math.inf else str(value)


def _facts(source: Source) -> tuple[str, ...]:
    environments = [record.environment for record in source.records]
    versions = {str((facts.get("versions") or {}).get("prunebench") or "") for facts in environments} - {""}
    devices = {str(facts.get("device") or "") for facts in environments} - {""}
    started = sorted(str(facts.get("started") or "")[:10] for facts in environments)
    entries = (", ".join(sorted(versions)), ", ".join(sorted(devices)), started[0], started[-1])
    return tuple(entry or text.MISSING for entry in entries)


def _tiles(sources: Sequence[Source]) -> list[tuple[str, str]]:
    records = list(chain.from_iterable(source.records for source in sources))
    failed = sum(record.status == "failed" for record in records)
    counts = (
        (len(records), "cell"),
        (len({record.cell.model for record in records}), "model"),
        (len({record.cell.method for record in records}), "method"),
        (len(sources), "folder"),
    )
    return [(str(number), what if number == 1 else f"{what}s") for number, what in counts] + [(str(failed), "failed")]


def _filters(found: Sequence[Board]) -> list[tuple[str, list[str]]]:
    """What a reader may filter by, with the choices."""
    rows = [row for board in found for row in board.rows]
    return [
        ("model", sorted({row.model for row in rows})),
        ("sparsity", sparsity_order(row.record.cell.sparsity for row in rows)),
        ("protocol", [board.title for board in found]),
        ("budget", sorted({row.budget for row in rows}, key=_budget_key)),
    ]


def _budget_key(budget: str) -> tuple[str, float]:
    training, _, tokens = budget.partition(", ")
    return training, text.sort_key(tokens.removesuffix(" tokens")) or 0.0
