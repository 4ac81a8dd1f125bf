"""The summary of a report: a few generated sentences."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.averages import mean_perplexity
from prunebench.report.budgets import NOT_MEASURED, described, group_of
from prunebench.report.grouping import DENSE, SettingGroup, evaluation_texts, measured_on, setting_groups
from prunebench.report.plots.pareto import comparable_families, pareto_front
from prunebench.report.tables.best import best_perplexities, marks_caption


@dataclass(frozen=True)
class Paragraph:
    """An introductory sentence and bullet points."""

    lead: str
    points: tuple[str, ...] = ()


def summarise(records: Sequence[Record], styles: dict[str, int], array_store: ArrayStore | None) -> list[Paragraph]:
    """Say what was run, which method is best at each sparsity, and what went wrong.

    Args:
        records: those to show; see ``prunebench.report.grouping.latest_records``.
        styles: see ``prunebench.report.grouping.method_styles``.
        array_store: the arrays of the records; without them ties are not mentioned.
    """
    paragraphs = [Paragraph(_overview(records))]
    for protocol, digest in evaluation_texts(records)[:1]:
        for setting_group in setting_groups(measured_on(records, protocol, digest)):
            paragraphs += _perplexity_paragraphs(setting_group, protocol, styles, array_store)
    paragraphs += _pareto_paragraphs(records)
    if noted := sum(bool(record.notes) for record in records):
        paragraphs.append(Paragraph(f"{_counted(noted, 'cell')} noted an adjustment or a degradation: see Notes."))
    return paragraphs


def _overview(records: Sequence[Record]) -> str:
    cells = [record.cell for record in records]
    pruning = [cell for cell in cells if cell.sparsity != DENSE]
    parts = [
        _counted(len({cell.model for cell in cells}), "model"),
        _counted(len({cell.method for cell in pruning}), "pruning method"),
        _counted(len({cell.sparsity for cell in pruning}), "sparsity", "sparsities"),
        _counted(len({cell.seed for cell in cells}), "seed"),
    ]
    failed = sum(record.status == "failed" for record in records)
    outcome = "all ran" if not failed else f"{failed} failed, with the errors below"
    return f"{_counted(len(records), 'cell')} of {join_words(parts)}: {outcome}."


def _perplexity_paragraphs(
    setting_group: SettingGroup, protocol: str, styles: dict[str, int], array_store: ArrayStore | None
) -> list[Paragraph]:
    measured = {key: mean for key, group in setting_group.entries.items() if (mean := mean_perplexity(group, protocol))}
    dense = {name: r.perplexity[protocol] for name, r in setting_group.baselines.items() if protocol in r.perplexity}
    if not measured and not dense:
        return []
    methods = setting_group.methods(styles)
    complete = {key: group for key, group in setting_group.entries.items() if key not in setting_group.failed}
    columns = [[complete.get((method, s), []) for method in methods] for s in setting_group.sparsities]
    marked = best_perplexities(columns, protocol, array_store)
    base = next(iter(dense.values()), None)
    points = []
    for column, sparsity in enumerate(setting_group.sparsities):
        values = {
            m: measured[m, sparsity][0] for m in methods if (m, sparsity) in measured and (m, sparsity) in complete
        }
        incomplete = [m for m in methods if (m, sparsity) in measured and (m, sparsity) not in complete]
        sentences = []
        if values:
            ties = [method for row, method in enumerate(methods) if (column, row) in marked]
            trained = {m: (group_of(complete[m, sparsity]), described(complete[m, sparsity])) for m in values}
            sentences.append(_sentence_for_sparsity(sparsity, values, ties, base.value if base else None, trained))
        if incomplete:
            beginning = "" if values else f"At {sparsity} "
            sentences.append(
                f"{beginning}{join_words(incomplete)} failed for a seed and {_does_or_do(incomplete)} not compete."
            )
        if sentences:
            points.append(" ".join(sentences))
    details = [f"{name} {text.number(facts.value)}" for name, facts in dense.items()]
    if base is not None and base.floor is not None:
        details.append(f"the least possible {text.number(base.floor)}")
    subject = ", ".join(part for part in (setting_group.setting.model, setting_group.label) if part)
    suffix = f" ({', '.join(details)})" if details else ""
    told = marks_caption(columns, marked=bool(marked), evidence=array_store is not None)
    if told:
        points.append(f"{told[0].upper()}{told[1:]}.")
    return [Paragraph(f"Perplexity of {subject} on {protocol}{suffix}:", tuple(points))]


def _sentence_for_sparsity(
    sparsity: str,
    values: dict[str, float],
    ties: Sequence[str],
    dense: float | None,
    trained: dict[str, tuple[str, str]],
) -> str:
    """One sentence on the methods at one sparsity; without paired tests it only names the lowest value.

    Where methods trained differently, each is named with its training, and so is the lowest of each kind.

    Args:
        sparsity: as asked for.
        values: perplexity by method.
        ties: the best and what cannot be told from it.
        dense: the dense model's perplexity.
        trained: by method, its group of ``prunebench.report.budgets`` and its training in words.
    """
    several = len({group for group, _ in trained.values()}) > 1

    def shown(method: str) -> str:
        return f"{method} with {text.number(values[method])}" + (f" ({trained[method][1]})" if several else "")

    ranked = sorted(values, key=lambda method: (values[method] != values[method], values[method]))
    best = ranked[0]
    times = f", {values[best] / dense:.2f} times the dense model's" if dense else ""
    if len(ranked) == 1:
        return f"At {sparsity} only {shown(best)}{times}."
    leaders = {group: method for method in reversed(ranked) if (group := trained[method][0]) != NOT_MEASURED}
    named = [shown(method) for group, method in leaders.items() if group != trained[best][0]]
    lowest = f" The lowest of another training: {join_words(named)}." if named else ""
    if best not in ties:
        return (
            f"At {sparsity} the lowest is {shown(best)}{times}; whether that is more than noise is not known.{lowest}"
        )
    others = [method for method in ranked if method in ties and method != best]
    behind = [method for method in ranked if method not in ties]
    tied = f"; {join_words([shown(method) for method in others])} cannot be told from it" if others else ""
    following = f"; then {join_words([shown(method) for method in behind[:2]])}" if behind else ""
    return f"At {sparsity} the best is {shown(best)}{times}{tied}{following}.{lowest}"


def _pareto_paragraphs(records: Sequence[Record]) -> list[Paragraph]:
    paragraphs = []
    for protocol, candidates in comparable_families(records)[:1]:
        best = pareto_front(candidates, "nonzero")
        several = len({candidate.training[0] for candidate in candidates if not candidate.dense}) > 1
        counts = Counter(
            "dense models"
            if candidate.dense
            else f"{candidate.method}, {candidate.described}"
            if several
            else candidate.method
            for candidate in best
        )
        members = [f"{name} ({count})" for name, count in counts.most_common()]
        paragraphs.append(
            Paragraph(
                f"The front of perplexity on {protocol} against non-zero parameters holds {len(best)} of "
                f"{_counted(len(candidates), 'model')}, pruned and dense: {join_words(members)}."
            )
        )
    return paragraphs


def join_words(words: Iterable[str]) -> str:
    """Join words as an enumeration: a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _does_or_do(subjects: Sequence[str]) -> str:
    return "does" if len(subjects) == 1 else "do"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
