"""Which entries of a table stand out: the best, and every one that cannot be told from it."""

import math
import statistics
from collections.abc import Callable, Sequence

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.paired import PairedTests, answers, paired_by_seed
from prunebench.report.significance import Change, best_and_ties

MARKED_CAPTION = "marked: the best of its sparsity and all ties with it (paired tests, false discoveries below 5 %)"
Entry = Sequence[Record]
PairedTest = Callable[[list[Record], list[Record]], Change | None]


def best_perplexities(
    columns: Sequence[Sequence[Entry]], protocol: str, array_store: ArrayStore | None
) -> set[tuple[int, int]]:
    """The lowest perplexity of each column and its ties.

    Args:
        columns: the records (seeds) behind each entry, column by column.
        protocol: of the perplexity.
        array_store: the arrays beside the records.

    Returns:
        (column, entry) pairs. Entries with a failed seed do not compete; a column of which some losses were not kept
        has none.
    """
    if array_store is None:
        return set()
    tests = PairedTests()

    def test(first: list[Record], second: list[Record]) -> Change | None:
        return tests.perplexity(protocol, [array_store.read(r) for r in first], [array_store.read(r) for r in second])

    contests = [[_mean_loss(entry, protocol) for entry in column] for column in columns]
    return _best_entries(columns, contests, [test] * len(columns), higher=False)


def best_accuracies(
    columns: Sequence[Sequence[Entry]],
    sparsities: Sequence[str],
    tasks: Sequence[Sequence[tuple[str, str]]],
    array_store: ArrayStore | None,
) -> set[tuple[int, int]]:
    """The highest accuracy of each task among the rows of one sparsity, and its ties.

    Args:
        columns: the records (seeds) behind each entry, column by column; an empty entry does not compete.
        sparsities: of each row.
        tasks: the (task, metric) pairs of each column: one, or all that a mean is taken over.
        array_store: the arrays beside the records.

    Returns:
        (column, row) pairs; see ``best_perplexities``.
    """
    if array_store is None:
        return set()
    tests = PairedTests()

    def test_of(pairs: Sequence[tuple[str, str]]) -> PairedTest:
        def test(first: list[Record], second: list[Record]) -> Change | None:
            sides = [array_store.read(r) for r in first], [array_store.read(r) for r in second]
            return tests.accuracy(*pairs[0], *sides) if len(pairs) == 1 else tests.mean_accuracy(pairs, *sides)

        return test

    places = [(sparsity, column) for sparsity in dict.fromkeys(sparsities) for column in range(len(tasks))]
    members = {sparsity: [row for row, s in enumerate(sparsities) if s == sparsity] for sparsity in sparsities}
    entered = [[columns[column][row] for row in members[sparsity]] for sparsity, column in places]
    contests = [
        [_mean_answer(entry, tasks[column], array_store) for entry in entries]
        for (_, column), entries in zip(places, entered, strict=True)
    ]
    marked = _best_entries(entered, contests, [test_of(tasks[column]) for _, column in places], higher=True)
    return {(places[contest][1], members[places[contest][0]][entry]) for contest, entry in marked}


def _best_entries(
    columns: Sequence[Sequence[Entry]], contests: Sequence[list[float]], tests: Sequence[PairedTest], *, higher: bool
) -> set[tuple[int, int]]:
    def p_value(place: int, best: int, other: int) -> float:
        sides = paired_by_seed(columns[place][best], columns[place][other])
        change = tests[place](*sides) if all(sides) else None
        return math.nan if change is None else change.p

    marked = best_and_ties(contests, p_value, higher=higher)
    return {(place, entry) for place, entries in enumerate(marked) for entry in entries}


def _all_ok(entry: Entry) -> bool:
    return bool(entry) and all(record.status == "ok" for record in entry)


def _mean_loss(entry: Entry, protocol: str) -> float:
    """Mean perplexity; NaN, which does not compete, where a seed failed or was not measured."""
    if not _all_ok(entry) or any(protocol not in record.perplexity for record in entry):
        return math.nan
    mean = statistics.fmean(record.perplexity[protocol].value for record in entry)
    return math.inf if math.isnan(mean) else mean


def _mean_answer(entry: Entry, tasks: Sequence[tuple[str, str]], array_store: ArrayStore) -> float:
    """Mean accuracy over seeds and tasks; NaN, which does not compete, where a seed failed or kept no answers."""
    if not _all_ok(entry) or not tasks:
        return math.nan
    found = [answers(array_store.read(record), task, metric) for record in entry for task, metric in tasks]
    return statistics.fmean(math.nan if given is None else float(given.mean()) for given in found)
