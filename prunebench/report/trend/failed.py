"""Cells of a history that failed: they have no value, and are told beside the series that they are missing from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import latest_records, protocol_digests

LONGEST = 80  # characters of an error's message


@dataclass(frozen=True)
class FailedCell:
    """A cell without a value.

    Args:
        at: place of its commit in the history.
        commit: the commit's name.
        record: of the failure.
    """

    at: int
    commit: str
    record: Record

    @property
    def error(self) -> str:
        """What was raised, in one line."""
        error = self.record.error
        said = text.printable(f"{error.type}: {error.message}" if error else "failed")
        return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"

    def belongs(self, like: Record, of: str) -> bool:
        """Whether it is missing from a series.

        A cell that failed early does not tell the digests of what it read, so that names decide.

        Args:
            like: a record of the series.
            of: the protocol that the series follows; empty, or the name of a task, for other metrics.
        """
        texts = protocol_digests(like)
        return _cell(self.record) == _cell(like) and (of not in texts or of in protocol_digests(self.record))


def failed_cells(histories: Iterable[tuple[str, Sequence[Record]]]) -> list[FailedCell]:
    """The failed cells of a history, in its order; not those that also ran well in the same folder.

    Args:
        histories: name and records of each commit.
    """
    found = []
    for number, (name, records) in enumerate(histories):
        well = {record.cell.key for record in records if record.status == "ok"}
        failed, _ = latest_records([r for r in records if r.status == "failed" and r.cell.key not in well])
        found += [FailedCell(number, name, record) for record in failed]
    return found


def _cell(record: Record) -> tuple[Any, ...]:
    model, method, sparsity, allocation, _, corpus = record.cell.key
    return model, method, sparsity, allocation, corpus
