"""Formatting of names, numbers, durations and sizes for tables, the progress display and messages."""

import math
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable

MISSING = "–"
FAILED = "failed"

# Control characters, invisible and direction-changing ones, lone surrogates, line separators.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: object) -> str:
    """Text as one printable line, without control characters.

    Names come from suites, records and plugins, and must not be able to steer a terminal.
    """
    line = str(text)
    if not (line.isascii() and line.isprintable()):
        spaced = (" " if character.isspace() else character for character in line)
        line = "".join(
            character
            for character in spaced
            if unicodedata.category(character) not in _UNPRINTABLE and not _is_noncharacter(character)
        )
    return " ".join(line.split())


def hanging(line: str, width: int) -> str:
    """A line as several that fit a terminal, words and paths left whole; all but the first are indented."""
    filled = textwrap.wrap(
        line, max(width, 20), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(filled)


def _is_noncharacter(character: str) -> bool:
    """Whether a code point is one of Unicode's noncharacters, which XML refuses."""
    return ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF


def decimals(value: float) -> int | None:
    """Number of decimals that give a perplexity four digits; None where it is shown with an exponent."""
    magnitude = abs(value)
    for limit, digits in ((10, 3), (100, 2), (1000, 1), (1e5, 0)):
        if magnitude < limit:
            return digits
    return None


def number(value: float, like: float | None = None) -> str:
    """Format a perplexity: 5.312, 12.40, 9330, 1.23e+06, inf, nan.

    Args:
        value: the number to format.
        like: a number whose count of decimals is used instead; for a spread, the mean that it belongs to.
    """
    digits = decimals(value if like is None else like)
    if not math.isfinite(value) or digits is None:
        return f"{value:.2e}" if math.isfinite(value) else str(value)
    return f"{value:.{digits}f}"


def seconds(value: float) -> str:
    """Format a duration in seconds: <0.001 s, 0.42 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if value < 0.001:
        return "<0.001 s"
    if value < 10:
        return f"{value:.2g} s" if value < 0.995 else f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(amount: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 model", "2 models".

    Args:
        amount: how many.
        noun: for one.
        plural: for any other number; by default the noun with an s.
    """
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def count(value: float) -> str:
    """Format a count: 512, 16.4 k, 2.10 M, 7.49 T."""
    if value < 10_000:
        return str(round(value))
    for limit, scale, unit in (
        (1e6, 1e3, "k"),
        (1e9, 1e6, "M"),
        (1e12, 1e9, "G"),
        (1e15, 1e12, "T"),
        (math.inf, 1e15, "P"),
    ):
        if value < limit:
            return f"{value / scale:.3g} {unit}"
    return str(value)


def size(value: float) -> str:
    """Format a number of bytes in binary units: 512 B, 640 MiB, 3.2 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def span(values: Iterable[float | None], show: Callable[[float], str]) -> str:
    """Format the lowest and the highest of what is known of some values: 1.2 s to 3.4 s; once where they read alike."""
    known = [value for value in values if value is not None]
    return " to ".join(dict.fromkeys((show(min(known)), show(max(known))))) if known else MISSING


_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_UNITS |= {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_AMOUNT = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?: (s|min|h|k|M|G|T|P|B|KiB|MiB|GiB)\b)?")


def sort_key(entry: str) -> float | None:
    """Parse the leading number of a table entry, with its unit, as the key to sort a column by.

    Args:
        entry: text that ``number``, ``seconds``, ``count`` or ``size`` returned, possibly followed by a spread or a
            range; an n:m pattern counts as its fraction of zeros.

    Returns:
        The number in base units (seconds, bytes, ones); None for words and missing values.
    """
    if entry.partition(" ")[0] in ("inf", "nan"):
        return math.inf
    if pattern := re.fullmatch(r"(\d{1,9}):(\d{1,9})", entry):
        nonzero, group = int(pattern[1]), int(pattern[2])
        return 1 - nonzero / group if group else None
    first = _AMOUNT.match(entry.lstrip("<"))
    if first is None:
        return None
    value = float(first[1]) * _UNITS[first[2] or ""]
    rest = _AMOUNT.match(entry.lstrip("<")[first.end() :].strip()) if first[2] in ("min", "h") else None
    return value + (float(rest[1]) * _UNITS[rest[2] or ""] if rest else 0)
