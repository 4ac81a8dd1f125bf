"""A table before it has a format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunebench import text
from prunebench.records.record import Record


@dataclass(frozen=True)
class Table:
    """Every entry is text as a person reads it; renderers escape what their format needs.

    Args:
        caption: what the rows are, complete enough to stand alone.
        headers: one for each column.
        rows: as long as ``headers``.
        marked: (row, column) of entries that stand out: the best of their kind and every tie with it.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[tuple[int, int]] = frozenset()


def caption(*parts: str) -> str:
    """A caption from its parts; empty ones fall out."""
    return "; ".join(text.printable(part) for part in parts if part)


def seeds_text(entries: Iterable[Sequence[Record]], spread: str = "") -> str:
    """Over how many seeds a table's entries are averaged.

    Args:
        entries: the records behind each entry.
        spread: what stands behind ± where there are several seeds.
    """
    counts = {len(entry) for entry in entries} or {1}
    if max(counts) == 1:
        return "one seed"
    if not spread:
        return f"mean over {'up to ' if len(counts) > 1 else ''}{max(counts)} seeds"
    up_to, single = "up to " if len(counts - {1}) > 1 else "", " (one where ± is missing)" if 1 in counts else ""
    return f"mean ± {spread} over {up_to}{max(counts)} seeds{single}"
