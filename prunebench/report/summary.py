"""The words on a report's first screen: what was run, when and on what, and one verdict for each model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.budgets import NOT_MEASURED, described, group_of
from prunebench.report.diagnosis import diagnose
from prunebench.report.grouping import DENSE
from prunebench.report.scene import TextScene
from prunebench.report.tables.best import MARKS, perplexity_marks
from prunebench.report.tables.heat import most_shared, times_dense, times_text

MOST_PURPOSES = 3  # suites whose descriptions a report begins with


@dataclass(frozen=True)
class Paragraph:
    """An introductory sentence and bullet points."""

    lead: str
    points: tuple[str, ...] = ()


def summarise(records: Sequence[Record], first: Sequence[TextScene], array_store: ArrayStore | None) -> list[Paragraph]:
    """Say what was run, which method is best, and what went wrong.

    Args:
        records: those to show; see ``prunebench.report.scenes.Scenes``.
        first: scenes of the first text, one verdict each.
        array_store: the arrays of the records; without them ties are not mentioned.
    """
    several = len(first) > 1
    verdicts = [verdict(scene, array_store, named=several) for scene in first]
    paragraphs = [Paragraph(said) for said in verdicts if said]
    told = [*_purposes(records), overview(records), _where_and_when(records)]
    paragraphs.append(Paragraph(" ".join(filter(None, told))))
    if ill := sum(bool(diagnose(record)) for record in records):
        shows = "shows a sign of a run" if ill == 1 else "show signs of runs"
        paragraphs.append(Paragraph(f"{text.counted(ill, 'cell')} {shows} that went wrong: see Diagnosis."))
    if noted := sum(bool(record.notes) for record in records):
        paragraphs.append(Paragraph(f"{text.counted(noted, 'cell')} noted an adjustment or a degradation: see Notes."))
    return paragraphs


def _purposes(records: Sequence[Record]) -> list[str]:
    """What the suites of the records are for, in their own words; nothing where that would be a list of many."""
    suites = [record.cell.suite for record in records if record.cell.suite is not None]
    found = list(dict.fromkeys(suite.description for suite in suites if suite.description))
    return found if len(found) <= MOST_PURPOSES else []


def overview(records: Sequence[Record]) -> str:
    """How many cells of what, and whether all ran."""
    cells = [record.cell for record in records]
    pruning = [cell for cell in cells if cell.sparsity != DENSE]
    parts = [
        text.counted(len({cell.model for cell in cells}), "model"),
        text.counted(len({cell.method for cell in pruning}), "pruning method"),
        text.counted(len({cell.sparsity for cell in pruning}), "sparsity", "sparsities"),
        text.counted(len({cell.seed for cell in cells}), "seed"),
    ]
    failed = sum(record.status == "failed" for record in records)
    outcome = "all ran" if not failed else f"{failed} failed, with the errors below"
    return f"{text.counted(len(records), 'cell')} of {join_words(parts)}: {outcome}."


def _where_and_when(records: Sequence[Record]) -> str:
    """The days and the devices of the records."""
    days = sorted({str(record.environment.get("started") or "")[:10] for record in records} - {""})
    devices = {
        f"{device} ({text.counted(threads, 'thread')})" if isinstance(threads, int) else str(device): None
        for record in records
        if (device := record.environment.get("device"))
        for threads in [record.environment.get("threads")]
    }
    ran = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""
    on = f"on {join_words(devices)}" if devices else ""
    return f"Run {' '.join(part for part in (ran, on) if part)}." if ran or on else ""


def verdict(scene: TextScene, array_store: ArrayStore | None, *, named: bool = False) -> str:
    """One sentence: the best method at the sparsity that most share, its training and seeds, and what ties with it.

    Args:
        scene: the records.
        array_store: as in ``summarise``.
        named: whether the sentence names the model.

    Returns:
        Empty where nothing was measured.
    """
    sparsity = most_shared(scene)
    entries = {method: group for (method, other), group in scene.measured.items() if other == sparsity}
    values = {
        method: sum(record.perplexity[scene.protocol].value for record in group) / len(group)
        for method, group in entries.items()
    }
    if not values:
        return ""
    ranked = sorted(values, key=lambda method: (values[method] != values[method], values[method]))
    best, others = ranked[0], ranked[1:]

    def shown(method: str) -> str:
        times = times_dense(scene, entries[method])
        return text.number(values[method]) if times is None else f"{times_text(times)} times dense"

    def told(method: str) -> str:
        seeds = text.counted(len(entries[method]), "seed")
        return f"{method} with {shown(method)} ({described(entries[method])}, {seeds})"

    where = f"Of {scene.model} at {sparsity}" if named else f"At {sparsity}"
    marks = perplexity_marks(entries, scene.protocol, array_store)
    ties = [method for method in others if marks[method] in MARKS]
    if not others:
        return f"{where}: only {told(best)} was measured."
    group = group_of(entries[best])
    rivals: dict[str, str] = {}
    for method in others:
        if NOT_MEASURED not in (group, kind := group_of(entries[method])) and kind != group:
            rivals.setdefault(kind, method)
    parts = [f"{where} the best is {told(best)}" if marks[best] in MARKS else f"{where} the lowest is {told(best)}"]
    if marks[best] not in MARKS:
        parts.append("whether that is more than noise is not known")
    if ties:
        parts.append(f"{join_words(ties)} cannot be told from it")
    parts += [f"the best {kind} method is {told(method)}" for kind, method in rivals.items() if method not in ties]
    return "; ".join(parts) + "."


def join_words(words: Iterable[str]) -> str:
    """Join words as an enumeration: a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
