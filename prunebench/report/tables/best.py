"""Selection of the best entries of a table, with all entries that are not significantly worse."""

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
        columns: the records (seeds) of each entry, column by column.
        protocol: the perplexity protocol.
        array_store: the arrays of the records.

    Returns:
        (column, entry) pairs. Entries with a failed seed do not compete; a column with missing losses has none.
    """
    if array_store is None:
        return set()
    tests = PairedTests()

    def test(first: list[Record], second: list[Record]) -> Change | None:
        return tests.perplexity(protocol, [array_store.read(r) for r in first], [array_store.read(r) for r in second])

    values = [[_mean_perplexity(entry, protocol) for entry in column] for column in columns]
    return _best_entries(columns, values, [test] * len(columns), higher=False)


def best_accuracies(
    columns: Sequence[Sequence[Entry]],
    sparsities: Sequence[str],
    tasks: Sequence[Sequence[tuple[str, str]]],
    array_store: ArrayStore | None,
) -> set[tuple[int, int]]:
    """The highest accuracy of each task among the rows of one sparsity, and its ties.

    Args:
        columns: the records (seeds) of each entry, column by column; an empty entry does not compete.
        sparsities: the sparsity of each row.
        tasks: the (task, metric) pairs of each column: one, or all those that a mean is over.
        array_store: the arrays of the records.

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

    contests = [(sparsity, column) for sparsity in dict.fromkeys(sparsities) for column in range(len(tasks))]
    members = {sparsity: [row for row, s in enumerate(sparsities) if s == sparsity] for sparsity in sparsities}
    competitors = [[columns[column][row] for row in members[sparsity]] for sparsity, column in contests]
    values = [
        [_mean_accuracy(entry, tasks[column], array_store) for entry in entries]
        for (_, column), entries in zip(contests, competitors, strict=True)
    ]
    marked = _best_entries(competitors, values, [test_of(tasks[column]) for _, column in contests], higher=True)
    return {(contests[index][1], members[contests[index][0]][entry]) for index, entry in marked}


def _best_entries(
    columns: Sequence[Sequence[Entry]], values: Sequence[list[float]], tests: Sequence[PairedTest], *, higher: bool
) -> set[tuple[int, int]]:
    def p_value(index: int, best: int, other: int) -> float:
        sides = paired_by_seed(columns[index][best], columns[index][other])
        change = tests[index](*sides) if all(sides) else None
        return math.nan if change is None else change.p

    marked = best_and_ties(values, p_value, higher=higher)
    return {(index, entry) for index, entries in enumerate(marked) for entry in entries}


def _all_ok(entry: Entry) -> bool:
    return bool(entry) and all(record.status == "ok" for record in entry)


def _mean_perplexity(entry: Entry, protocol: str) -> float:
    """Mean perplexity over seeds; NaN (does not compete) if a seed failed or was not measured."""
    if not _all_ok(entry) or any(protocol not in record.perplexity for record in entry):
        return math.nan
    mean = statistics.fmean(record.perplexity[protocol].value for record in entry)
    return math.inf if math.isnan(mean) else mean


def _mean_accuracy(entry: Entry, tasks: Sequence[tuple[str, str]], array_store: ArrayStore) -> float:
    """Mean accuracy over seeds and tasks; NaN (does not compete) if a seed failed or stored no answers."""
    if not _all_ok(entry) or not tasks:
        return math.nan
    scores = [answers(array_store.read(record), task, metric) for record in entry for task, metric in tasks]
    return statistics.fmean(math.nan if array is None else float(array.mean()) for array in scores)
