"""Strict JSON: a parser that accepts only what the standard has, and a digest that ignores the layout."""

import hashlib
import json
import re
from typing import Any

MAX_DEPTH = 64


def strict_json(content: bytes) -> Any:
    """Parse JSON: UTF-8, each key once, finite numbers, integers of 64 bits, nested no deeper than ``MAX_DEPTH``.

    Raises:
        ValueError: the content is not such JSON; the message says why.
    """
    integer = _bounded_integer if _LONG_NUMBER.search(content) else None  # a Python call per integer is slow
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=integer,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    nodes = [value]
    for _ in range(MAX_DEPTH):
        nodes = [
            child
            for part in nodes
            for child in (part.values() if isinstance(part, dict) else part if isinstance(part, list) else ())
            if isinstance(child, dict | list)
        ]
        if not nodes:
            return value
    raise ValueError(f"it is nested deeper than {MAX_DEPTH}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return mapping


_LONG_NUMBER = re.compile(rb"\d{19}")


def _bounded_integer(token: str) -> int:
    value = int(token)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("it holds an integer of more than 64 bits")
    return value


def _refuse_constant(token: str) -> Any:
    raise ValueError(f"{token} is no number in JSON")


def content_digest(content: Any) -> str:
    """SHA-256 (hex) of a JSON value in canonical form: keys sorted, no white space, numbers as Python writes them.

    Raises:
        ValueError: it holds a number that is not finite, or a lone surrogate.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
