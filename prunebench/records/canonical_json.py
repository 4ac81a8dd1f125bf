"""Reading what may be torn, altered or foreign: regular files of a sane size, and JSON as the standard has it."""

import hashlib
import json
import re
from typing import Any

DEPTH = 64


def strict_json(content: bytes) -> Any:
    """Parse JSON: UTF-8, each key once, finite numbers, integers of 64 bits, nested no deeper than ``DEPTH``.

    Raises:
        ValueError: it is none; the message says why.
    """
    integer = _integer if _LONG.search(content) else None  # a call for each costs time
    try:
        found = json.loads(
            content.decode("utf-8"), object_pairs_hook=_each_key_once, parse_constant=_no_number, parse_int=integer
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [found]
    for _ in range(DEPTH):
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole if isinstance(whole, list) else ())
            if isinstance(part, dict | list)
        ]
        if not level:
            return found
    raise ValueError(f"it is nested deeper than {DEPTH}")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


_LONG = re.compile(rb"\d{19}")


def _integer(token: str) -> int:
    value = int(token)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("it holds an integer of more than 64 bits")
    return value


def _no_number(token: str) -> Any:
    raise ValueError(f"{token} is no number in JSON")


def content_digest(content: Any) -> str:
    """SHA-256 (hex) of a JSON value, however it is laid out: keys sorted, no blanks, numbers as Python writes them.

    Raises:
        ValueError: it holds a number that is not finite, or half a character (a lone surrogate).
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
