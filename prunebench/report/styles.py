"""Colours and markers of methods, the same in every report."""

import hashlib
from collections.abc import Iterable, Sequence

from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, method_order

COLOURS, MARKERS = 8, 9
STYLES = COLOURS * MARKERS
SALT = 395_972
"""Of the style numbers: chosen by search so that methods often seen together have colours and markers of their own."""


def method_styles(records: Iterable[Record], order: Sequence[str] = ()) -> dict[str, int]:
    """A style number for each method that prunes, in the order to show them: its colour and its marker in every plot.

    The number follows from the method's name, whatever else is in a report. The names of one method at several budgets
    ("elsa 0.5M", "elsa 2M") begin alike and have one colour, and markers of their own. Only where two methods of a
    report had the same colour and marker, the one that comes later by name has the next ones that are free.
    """
    pruning = [record for record in records if record.cell.sparsity != DENSE]
    methods = method_order(pruning, order)
    numbers: dict[str, int] = {}
    for method in sorted(methods):
        own = style_number(method)
        # Another marker of the same colour, and when all are taken the next colour.
        tried = ((own + COLOURS * step + step // MARKERS) % STYLES for step in range(STYLES))
        numbers[method] = next((number for number in tried if number not in numbers.values()), own)
    return {method: numbers[method] for method in methods}


def style_number(method: str) -> int:
    """The style that a method's name asks for: its first word the colour, the whole of it the marker.

    Returns:
        A number below ``STYLES``, modulo 8 that of the colour, modulo 9 that of the marker.
    """
    colour, marker = (
        int.from_bytes(hashlib.sha256(f"{SALT}{text}".encode()).digest()[:4], "big")
        for text in (method.partition(" ")[0], method)
    )
    # By the Chinese remainder theorem one number has both remainders: 9 ≡ 1 modulo 8, 64 ≡ 1 modulo 9.
    return (9 * (colour % COLOURS) + 64 * (marker % MARKERS)) % STYLES
