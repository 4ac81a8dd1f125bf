"""The format-independent table that all tables of a report are built as."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prunebench import text
from prunebench.records.record import Record


@dataclass(frozen=True)
class Table:
    """A table of plain text entries; each output format escapes what it must.

    Args:
        caption: what the table shows, understandable on its own.
        headers: one for each column.
        rows: entries, as many per row as ``headers``.
        marked: (row, column) of highlighted entries: the best of their kind and its ties.
        over_all: (row, column) of entries that are so among several kinds: those of each are in ``marked``.
        heat: shades from 0 to 1 by (row, column), for formats that have colours.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[tuple[int, int]] = frozenset()
    over_all: frozenset[tuple[int, int]] = frozenset()
    heat: Mapping[tuple[int, int], float] = field(default_factory=dict, hash=False)


def caption(*parts: str) -> str:
    """Join the non-empty parts of a caption."""
    return "; ".join(text.printable(part) for part in parts if part)


def seeds_text(entries: Iterable[Sequence[Record]], spread: str = "") -> str:
    """Say, for a caption, over how many seeds a table's entries are averaged.

    Args:
        entries: the records of each entry.
        spread: what the number after ± is, if there are several seeds.
    """
    counts = {len(entry) for entry in entries} or {1}
    if max(counts) == 1:
        return "one seed"
    if not spread:
        return f"mean over {'up to ' if len(counts) > 1 else ''}{max(counts)} seeds"
    up_to, single = "up to " if len(counts - {1}) > 1 else "", " (one where ± is missing)" if 1 in counts else ""
    return f"mean ± {spread} over {up_to}{max(counts)} seeds{single}"
