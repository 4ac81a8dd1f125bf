"""What a table marks: the best of a column with all that are not worse beyond noise; and why nothing is marked."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from prunebench.records.arrays import Arrays, ArrayStore
from prunebench.records.record import Record
from prunebench.report.intervals import mean_losses, wilson
from prunebench.report.noise import Seeds
from prunebench.report.paired import sequence_losses, task_answers
from prunebench.report.significance import Mark, best

MARKED_CAPTION = (
    "marked: the best of its sparsity and all that are not worse beyond the noise of seeds and test sequences (wrongly "
    "called worse: in about 5 % of columns at most)"
)
ONE_SEED_CAPTION = (
    "no marks: one seed of a method that takes data does not show how much seeds differ; run three or more, "
    "such as seeds: [0, 1, 2]"
)
GROUPED_CAPTION = "among rows of the same training; † marks the same over all rows, whatever they trained"
OTHER_SEEDS_CAPTION = "seeds differ between methods and are not paired"
MARKS = ("best", "tie")
Entry = Sequence[Record]


def perplexity_marks(entries: Mapping[str, Entry], protocol: str, array_store: ArrayStore | None) -> dict[str, Mark]:
    """Compare the perplexities of any set of methods at one sparsity: a column of a table, or a group of its rows.

    Args:
        entries: by method, its records, one for each seed. One with a failed seed, or that was not measured, does not
            compete.
        protocol: the perplexity protocol.
        array_store: the arrays of the records; without them everything is unmarked.

    Returns:
        For each method "best", "tie", "worse" or "unmarked": see ``prunebench.report.significance.best``. All are
        unmarked if losses are missing or belong to other sequences.
    """
    competing = {name: entry for name, entry in entries.items() if all_ok(entry) and _has(entry, protocol)}
    unmarked: dict[str, Mark] = dict.fromkeys(entries, "unmarked")
    if array_store is None or len(competing) < 2:
        return unmarked
    found = sequence_losses(protocol, list(_by_seed(competing, array_store).values()))
    if found is None:
        return unmarked
    losses, counts = found
    return unmarked | best(dict(zip(competing, losses, strict=True)), weights=counts)


def accuracy_marks(
    entries: Mapping[str, Entry], tasks: Sequence[tuple[str, str]], array_store: ArrayStore | None
) -> dict[str, Mark]:
    """Compare the accuracies of any set of methods at one sparsity; one that is not above chance is unmarked.

    Args:
        entries, array_store: see ``perplexity_marks``.
        tasks: (task, metric) pairs: one, or those that an unweighted mean is over.
    """
    competing = {name: entry for name, entry in entries.items() if all_ok(entry)}
    unmarked: dict[str, Mark] = dict.fromkeys(entries, "unmarked")
    if array_store is None or len(competing) < 2 or not tasks:
        return unmarked
    by_seed = list(_by_seed(competing, array_store).values())
    of_tasks = [task_answers(task, metric, by_seed) for task, metric in tasks]
    known = [answers for answers in of_tasks if answers is not None]
    if len(known) < len(of_tasks):
        return unmarked
    counts = [len(next(iter(answers[0].values()))) for answers in known]
    weights = np.repeat([1 / count for count in counts], counts)
    wrong: list[Seeds] = [
        {seed: np.concatenate([1.0 - answers[index][seed] for answers in known]) for seed in known[0][index]}
        for index in range(len(competing))
    ]
    resolution = sum(2 / count**2 for count in counts) / len(counts) ** 2
    marks = unmarked | best(dict(zip(competing, wrong, strict=True)), weights=weights, resolution=resolution)
    chance = chance_of([record for entry in competing.values() for record in entry], [task for task, _ in tasks])
    if chance is not None:
        for name, losses in zip(competing, wrong, strict=True):
            if marks[name] in MARKS and _lowest_accuracy(losses, weights, single=len(tasks) == 1) <= chance:
                marks[name] = "unmarked"
    return marks


def _lowest_accuracy(wrong: Seeds, weights: np.ndarray, *, single: bool) -> float:
    """The lower end of the 95 % interval of an accuracy."""
    low = 1 - mean_losses([wrong], weights)[0].high
    if not single:
        return low
    of_questions, _ = wilson(1 - float(np.mean(list(wrong.values()))), len(weights))
    return of_questions if len(wrong) == 1 else min(low, of_questions)


def chance_of(records: Iterable[Record], tasks: Sequence[str]) -> float | None:
    """The mean accuracy of guessing over tasks; None if it is not known of all of them."""
    known = [next((r.chance[task] for r in records if task in r.chance), None) for task in tasks]
    shares = [share for share in known if share is not None]
    return statistics.fmean(shares) if shares and len(shares) == len(tasks) else None


def best_perplexities(
    columns: Sequence[Sequence[Entry]], protocol: str, array_store: ArrayStore | None
) -> set[tuple[int, int]]:
    """The (column, entry) pairs to mark in a table of perplexities; see ``perplexity_marks``."""
    return {
        (index, int(name))
        for index, column in enumerate(columns)
        for name, mark in perplexity_marks(_numbered(column), protocol, array_store).items()
        if mark in MARKS
    }


def marks_by_group(
    columns: Sequence[Sequence[Entry]], groups: Sequence[str], protocol: str, array_store: ArrayStore | None
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """The lowest perplexities and their ties among the entries of each group, and over all of several groups.

    Args:
        columns, protocol, array_store: see ``best_perplexities``.
        groups: the group of each entry of a column; see ``prunebench.report.budgets``.

    Returns:
        (column, entry) pairs, twice: of the best inside their group, and over all; the latter are empty where there is
        one group.
    """
    over_all = best_perplexities(columns, protocol, array_store)
    if len(set(groups)) < 2:
        return over_all, set()
    inside: set[tuple[int, int]] = set()
    for group in dict.fromkeys(groups):
        rows = [row for row, other in enumerate(groups) if other == group]
        found = best_perplexities([[column[row] for row in rows] for column in columns], protocol, array_store)
        inside |= {(column, rows[row]) for column, row in found}
    return inside, over_all


def best_accuracies(
    columns: Sequence[Sequence[Entry]],
    sparsities: Sequence[str],
    tasks: Sequence[Sequence[tuple[str, str]]],
    array_store: ArrayStore | None,
) -> set[tuple[int, int]]:
    """The highest accuracy of each task among the rows of one sparsity, and all that are not worse beyond noise.

    Args:
        columns: the records (seeds) of each entry, column by column; an empty entry does not compete.
        sparsities: the sparsity of each row.
        tasks: the (task, metric) pairs of each column: one, or all those that a mean is over.
        array_store: the arrays of the records.

    Returns:
        (column, row) pairs; see ``accuracy_marks``.
    """
    marked = set()
    for sparsity in dict.fromkeys(sparsities):
        rows = [row for row, other in enumerate(sparsities) if other == sparsity]
        for column, pairs in enumerate(tasks):
            marks = accuracy_marks({str(row): columns[column][row] for row in rows}, pairs, array_store)
            marked |= {(column, int(row)) for row, mark in marks.items() if mark in MARKS}
    return marked


def marks_caption(columns: Iterable[Sequence[Entry]], *, marked: bool, evidence: bool) -> str:
    """What a caption says about the marks of a table: what they mean, or how to get them.

    Args:
        columns: the records (seeds) of each entry, column by column.
        marked: whether anything is marked.
        evidence: whether the arrays of the records are at hand.
    """
    competing = [[entry for entry in column if all_ok(entry)] for column in columns]
    contests = [column for column in competing if len(column) > 1]
    random = [[entry for entry in column if not deterministic(entry)] for column in contests]
    seeds = [{tuple(sorted(record.cell.seed for record in entry)) for entry in column} for column in random]
    one_seed = any(column and all(len(entry) == 1 for entry in column) for column in random)
    parts = [
        MARKED_CAPTION if marked else "",
        ONE_SEED_CAPTION if evidence and one_seed and not marked else "",
        OTHER_SEEDS_CAPTION if marked and any(len(found) > 1 for found in seeds) else "",
    ]
    return "; ".join(part for part in parts if part)


def deterministic(entry: Entry) -> bool:
    """Whether a method gives the same with every seed, because it takes no data."""
    return all(record.method is not None and not record.method.takes_data for record in entry)


def all_ok(entry: Entry) -> bool:
    """Whether an entry has records, none of them failed."""
    return bool(entry) and all(record.status == "ok" for record in entry)


def _has(entry: Entry, protocol: str) -> bool:
    return all(protocol in record.perplexity for record in entry)


def _numbered(column: Sequence[Entry]) -> dict[str, Entry]:
    return {str(number): entry for number, entry in enumerate(column)}


def _by_seed(entries: Mapping[str, Entry], array_store: ArrayStore) -> dict[str, dict[int, Arrays]]:
    """The arrays of each seed; a deterministic method has the same under two seeds at least."""
    found = {}
    for name, entry in entries.items():
        arrays = {record.cell.seed: array_store.read(record) for record in entry}
        if deterministic(entry):
            first, same = next(iter(arrays.items()))
            arrays = {first: same, first + 1: same}
        found[name] = arrays
    return found
