"""A comparison as a comment on a pull request: the verdict first, only what changed, narrow enough for 760 pixels."""

import re
from collections.abc import Iterable, Sequence

from prunebench.records.record import Record
from prunebench.report.compare.formats import headline, shown_change, shown_value, tolerance_text
from prunebench.report.compare.verdict import ComparedCell, Comparison, Measure, Verdict
from prunebench.report.output.text_tables import escape_markdown
from prunebench.text import counted

MOST_ROWS = 20  # of each kind; more make nobody wiser
LONGEST = 200  # characters of a reason or an error message

Changed = tuple[ComparedCell, Measure]


def mark_of(name: str) -> str:
    """A line that no reader sees, by which a job finds the comment that it wrote before.

    Args:
        name: what tells the comment from those of other jobs; what could end an HTML comment is replaced.
    """
    return f"<!-- prunebench compare: {re.sub(r'[^A-Za-z0-9._/ ]', '_', name)} -->"


def comparison_to_comment(comparison: Comparison, name: str) -> str:
    """GitHub Markdown: an invisible mark, a headline with the verdict, a table of what changed, and the rest folded.

    Args:
        comparison: of a baseline (BASE) and what is to be judged (HEAD).
        name: what tells the comment from those of other jobs.
    """
    worse, better, unclear = (
        _changed(comparison, verdict) for verdict in (Verdict.REGRESSION, Verdict.IMPROVEMENT, Verdict.CANNOT_TELL)
    )
    failed = [cell for cell in comparison.cells if cell.newly_failed]
    rows: list[tuple[str, ...]] = [
        (f"**{_cell(cell.head)}**", "**runs**", f"ok → failed: {_error(cell)}", "") for cell in failed
    ]
    rows += [_row(*changed, mark="**{}**") for changed in sorted(worse, key=_excess, reverse=True)]
    rows += [_row(*changed, mark="{}") for changed in better]
    parts = [
        f"{mark_of(name)}\n### {verdict_line(comparison)}",
        _table(("cell", "measure", "baseline → now", "change"), rows),
        _listed(
            "Cannot tell: other seeds, and too few of them",
            [f"{_cell(cell.head)}: {escape_markdown(f'{measure.name} {measure.of}')}" for cell, measure in unclear],
        ),
        _listed(
            "Not comparable",
            [f"{_cell(cell.head)}: {_short(reason)}" for cell in comparison.cells for reason in cell.refused],
        ),
        _listed("Only in the baseline", map(_cell, comparison.only_base)),
        _listed("New", map(_cell, comparison.only_head)),
        f"<sub>{escape_markdown(headline(comparison))}. {escape_markdown(tolerance_text(comparison))}.</sub>",
    ]
    return "\n\n".join(part for part in parts if part)


def verdict_line(comparison: Comparison) -> str:
    """The verdict with the worst that happened, in one line of Markdown."""
    worse = sorted(_changed(comparison, Verdict.REGRESSION), key=_excess, reverse=True)
    failed = [cell for cell in comparison.cells if cell.newly_failed]
    more = len(worse) + len(failed) - 1
    others = f", and {more} more" if more > 0 else ""
    if failed:
        return f"❌ Regression: {_cell(failed[0].head)} fails{others}"
    if worse:
        cell, measure = worse[0]
        what = escape_markdown(f"{measure.name} {shown_change(measure)}")
        return f"❌ Regression: {what}, {_cell(cell.head)}{others}"
    better, cells = len(_changed(comparison, Verdict.IMPROVEMENT)), counted(comparison.compared, "cell")
    if comparison.refused:
        return f"⚠️ No regression found, but {counted(comparison.refused, 'cell')} cannot be compared"
    if not comparison.compared:
        return "⚠️ Nothing was compared"
    improved = f", {counted(better, 'improvement')}" if better else ""
    return f"✅ No regression in {cells}{improved}"


def _changed(comparison: Comparison, verdict: Verdict) -> list[Changed]:
    return [(cell, measure) for cell in comparison.cells for measure in cell.with_verdict(verdict)]


def _excess(changed: Changed) -> float:
    """How far a change is beyond its tolerance, in tolerances."""
    _, measure = changed
    return abs(measure.change) / (measure.tolerance or 1e-9)


def _cell(record: Record) -> str:
    cell = record.cell
    return escape_markdown(f"{cell.method} {cell.sparsity}, {cell.model}, seed {cell.seed}")


def _row(cell: ComparedCell, measure: Measure, mark: str) -> tuple[str, ...]:
    values = f"{shown_value(measure, measure.base)} → {shown_value(measure, measure.head)}"
    name = escape_markdown(f"{measure.name} {measure.of}".rstrip())
    return (
        mark.format(_cell(cell.head)),
        name,
        values,
        mark.format(escape_markdown(shown_change(measure)).replace(" ", "&nbsp;")),
    )


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of at most ``MOST_ROWS`` rows, whose entries are escaped already; empty without rows."""
    if not rows:
        return ""
    lines = [headers, ("---", "---", "---", "---:"), *rows[:MOST_ROWS]]
    more = f"\n\n… and {len(rows) - MOST_ROWS} more" if len(rows) > MOST_ROWS else ""
    return "\n".join(f"| {' | '.join(entries)} |" for entries in lines) + more


def _listed(title: str, entries: Iterable[str]) -> str:
    """A folded list; empty without entries."""
    found = list(dict.fromkeys(entries))
    if not found:
        return ""
    more = [f"… and {len(found) - MOST_ROWS} more"] if len(found) > MOST_ROWS else []
    lines = "\n".join(f"* {entry}" for entry in [*found[:MOST_ROWS], *more])
    return f"<details><summary>{title} ({len(found)})</summary>\n\n{lines}\n\n</details>"


def _error(cell: ComparedCell) -> str:
    error = cell.head.error
    return _short(f"{error.type}: {error.message}") if error else "failed"


def _short(words: str) -> str:
    return escape_markdown(words if len(words) <= LONGEST else f"{words[:LONGEST]}…")
