"""How names and numbers are shown; by tables, the progress display and messages alike."""

import math
import re
import unicodedata

MISSING = "–"
FAILED = "failed"

# Control characters, invisible and direction-changing ones, lone surrogates, line separators.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def plain(text: object) -> str:
    """One printable line: names come from suites, records and plugins, and must not steer a terminal."""
    words = str(text)
    if not (words.isascii() and words.isprintable()):
        kept = (" " if sign.isspace() else sign for sign in words)
        words = "".join(sign for sign in kept if unicodedata.category(sign) not in _UNPRINTABLE and not _is_none(sign))
    return " ".join(words.split())


def _is_none(sign: str) -> bool:
    """Whether it is one of the code points that are no characters, which XML refuses."""
    return ord(sign) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(sign) <= 0xFDEF


def decimals(value: float) -> int | None:
    """Decimals that give a perplexity four digits; None where it is shown with an exponent."""
    size = abs(value)
    for limit, places in ((10, 3), (100, 2), (1000, 1), (1e5, 0)):
        if size < limit:
            return places
    return None


def number(value: float, like: float | None = None) -> str:
    """A perplexity: 5.312, 12.40, 9330, 1.23e+06, inf, nan.

    Args:
        value: what to show.
        like: the number beside which it stands (its spread); shown with as many decimals.
    """
    places = decimals(value if like is None else like)
    if not math.isfinite(value) or places is None:
        return f"{value:.2e}" if math.isfinite(value) else str(value)
    return f"{value:.{places}f}"


def seconds(value: float) -> str:
    """A duration: <0.001 s, 0.42 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if value < 0.001:
        return "<0.001 s"
    if value < 10:
        return f"{value:.2g} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(value: float) -> str:
    """A count: 512, 16.4 k, 2.10 M."""
    if value < 10_000:
        return str(round(value))
    for limit, scale, unit in ((1e6, 1e3, "k"), (1e9, 1e6, "M"), (math.inf, 1e9, "G")):
        if value < limit:
            return f"{value / scale:.3g} {unit}"
    return str(value)


def size(value: float) -> str:
    """An amount of memory in binary units: 512 B, 640 MiB, 3.2 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_UNITS["GiB"] = 1 << 30
_AMOUNT = re.compile(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?: (s|min|h|k|M|G|B|KiB|MiB|GiB)\b)?")


def amount(entry: str) -> float | None:
    """The number that an entry begins with, its unit reckoned in, so that a column of them can be sorted.

    Args:
        entry: what ``number``, ``seconds``, ``count`` or ``size`` gave, maybe with a spread or a range behind it; an
            n:m pattern counts as its fraction of zeros.

    Returns:
        None for words and for what is missing.
    """
    if entry.partition(" ")[0] in ("inf", "nan"):
        return math.inf
    if pattern := re.fullmatch(r"(\d+):(\d+)", entry):
        kept, of = int(pattern[1]), int(pattern[2])
        return 1 - kept / of if of else None
    first = _AMOUNT.match(entry.lstrip("<"))
    if first is None:
        return None
    value = float(first[1]) * _UNITS[first[2] or ""]
    rest = _AMOUNT.match(entry.lstrip("<")[first.end() :].strip()) if first[2] in ("min", "h") else None
    return value + (float(rest[1]) * _UNITS[rest[2] or ""] if rest else 0)
