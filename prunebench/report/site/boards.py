"""Leaderboards: a table for each text, and for each task on one set of questions. Rows of others never join them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.budgets import NOT_MEASURED, trained_tokens, training_of
from prunebench.report.grouping import DENSE, Setting, protocol_digests, sparsity_order, text_titles
from prunebench.report.site.gather import Source
from prunebench.report.tables.scores import Column, file_digests, scores

Entry = tuple[Source, Record]


@dataclass(frozen=True)
class Row:
    """One record of a leaderboard.

    Args:
        source, record: where it lies.
        model: its label, with what tells its weights from others of that name.
        value, stderr: what was measured, as text.
        sort: the value.
        times: the value over the dense model's, as text.
        budget: how it was trained, and on how many tokens.
    """

    source: Source
    record: Record
    model: str
    value: str
    stderr: str
    sort: float
    times: str
    budget: str


@dataclass(frozen=True)
class Board:
    """A leaderboard.

    Args:
        name: identifier in the page.
        title: the protocol or task.
        explanation: what tells it from others, and which direction is better.
        measure: heading of the value.
        rows: best first for each model and sparsity.
    """

    name: str
    title: str
    explanation: str
    measure: str
    rows: tuple[Row, ...]


def boards(sources: Sequence[Source]) -> list[Board]:
    """All leaderboards of some folders: those of perplexities, then those of tasks."""
    entries = _distinct((source, record) for source in sources for record in source.records if record.status == "ok")
    labels = _model_labels(entries)
    return [*_perplexity_boards(entries, labels), *_task_boards(entries, labels)]


def failures(sources: Sequence[Source]) -> list[Entry]:
    """Cells that failed, which stand in no leaderboard."""
    return [(source, record) for source in sources for record in source.records if record.status == "failed"]


def budget_of(record: Record) -> str:
    """How a record's model was trained: one-shot; end to end, 524 k tokens."""
    training, tokens = training_of(record), trained_tokens(record)
    if record.cell.sparsity == DENSE and not tokens:
        return "dense"
    if training == NOT_MEASURED or not tokens:
        return training
    return f"{training}, {text.count(tokens)} tokens"


def _distinct(entries: Iterable[Entry]) -> list[Entry]:
    """Copies of one record, in several folders, count once."""
    found: dict[tuple[str | None, str], Entry] = {}
    for source, record in entries:
        found.setdefault((record.digest or source.name, record.cell.id), (source, record))
    return list(found.values())


def _model_labels(entries: Sequence[Entry]) -> dict[tuple[str, str, str], str]:
    """By checkpoint, the model's label, with its digest and number format where one label has several."""
    checkpoints = list(dict.fromkeys(Setting.of(record).checkpoint for _, record in entries))

    def label(checkpoint: tuple[str, str, str]) -> str:
        model, digest, dtype = checkpoint
        same = [other for other in checkpoints if other[0] == model]
        others, formats = (len({other[part] for other in same}) > 1 for part in (1, 2))
        parts = (digest[:8] or "unknown") if others else "", dtype if formats else ""
        return f"{model} ({', '.join(filter(None, parts))})" if any(parts) else model

    return {checkpoint: label(checkpoint) for checkpoint in checkpoints}


def _perplexity_boards(entries: Sequence[Entry], labels: dict[tuple[str, str, str], str]) -> list[Board]:
    found = []
    titles = text_titles(record for _, record in entries)
    for number, ((protocol, digest), title) in enumerate(titles.items()):
        own = [
            (source, record)
            for source, record in entries
            if protocol in record.perplexity and protocol_digests(record).get(protocol) == digest
        ]
        if not own:
            continue
        dense = {
            (source.name, Setting.of(record).checkpoint): record.perplexity[protocol].value
            for source, record in own
            if budget_of(record) == "dense"
        }
        anywhere = {checkpoint: value for (_, checkpoint), value in dense.items()}
        rows = []
        for source, record in own:
            facts, checkpoint = record.perplexity[protocol], Setting.of(record).checkpoint
            unit = dense.get((source.name, checkpoint), anywhere.get(checkpoint))
            times = text.number(facts.value / unit) if unit else text.MISSING
            shown = text.number(facts.value), text.number(facts.stderr, facts.value)
            rows.append(Row(source, record, labels[checkpoint], *shown, facts.value, times, budget_of(record)))
        found.append(
            Board(
                f"text-{number}",
                title,
                f"Perplexity on one text (digest {digest[:16] or 'unknown'}); lower is better.",
                "perplexity",
                _ordered(rows),
            )
        )
    return found


def _task_boards(entries: Sequence[Entry], labels: dict[tuple[str, str, str], str]) -> list[Board]:
    by_column: dict[tuple[Column, str], list[Row]] = {}
    for source, record in entries:
        digests = file_digests(record)
        for column, score in scores(record).items():
            if not column.share:
                continue
            value = f"{100 * score.value:.1f}"
            error = text.MISSING if score.stderr is None else f"{100 * score.stderr:.1f}"
            label = labels[Setting.of(record).checkpoint]
            row = Row(source, record, label, value, error, -score.value, text.MISSING, budget_of(record))
            by_column.setdefault((column, digests.get(column.task, "")), []).append(row)
    columns = [column for column, _ in by_column]
    found = []
    for number, ((column, digest), rows) in enumerate(by_column.items()):
        others = [other for other in columns if other.task == column.task]
        same = f" (files {digest[:8] or 'of lm-eval'})" if others.count(column) > 1 else ""
        chance = next((r.record.chance[column.task] for r in rows if column.task in r.record.chance), None)
        guessed = f"; guessing gives {100 * chance:.1f}" if chance is not None else ""
        found.append(
            Board(
                f"task-{number}",
                column.header(columns) + same,
                f"{column.metric} in percent of {column.questions or 'unknown'} questions, {column.shots or 0} shots; "
                f"higher is better{guessed}.",
                "accuracy",
                _ordered(rows),
            )
        )
    return found


def _ordered(rows: Sequence[Row]) -> tuple[Row, ...]:
    places = {s: number for number, s in enumerate(sparsity_order(row.record.cell.sparsity for row in rows))}
    return tuple(sorted(rows, key=lambda row: (row.model, places[row.record.cell.sparsity], row.sort)))
