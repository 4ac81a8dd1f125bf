"""What a method keeps from one call to the next, which should be nothing."""

import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from torch import Tensor

DEPTH = 4


def keepsakes(method: Any) -> dict[str, object]:
    """Everything that a call of ``prune`` could leave in the method for the next one, as comparable values.

    Looks at the instance, its classes, and the globals of the module that defines it; caches of ``functools`` are a
    function's own business and not looked at.

    Args:
        method: an instance.

    Returns:
        Place → a value that differs when what is kept there does.
    """
    return {place: _print_of(value) for place, value in _places(method)}


def _places(method: Any) -> Iterator[tuple[str, Any]]:
    cls = type(method)
    for name, value in getattr(method, "__dict__", {}).items():
        yield f"self.{name}", value
    owners: list[tuple[str, Mapping[str, Any]]] = [
        (owner.__name__, vars(owner)) for owner in cls.__mro__ if owner is not object
    ]
    owners.append((cls.__module__, vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}))
    for owner, content in owners:
        for name, value in list(content.items()):
            if not name.startswith("__") and not callable(value):
                yield f"{owner}.{name}", value


def _print_of(value: Any, depth: int = 0) -> object:
    """A comparable value that changes when ``value`` is written to."""
    if isinstance(value, Tensor):
        return ("tensor", id(value), value._version)
    if isinstance(value, np.ndarray):
        return ("array", id(value), value.tobytes())
    if isinstance(value, str | bytes | int | float | complex | None):
        return repr(value)
    if depth == DEPTH:
        return type(value).__name__
    if isinstance(value, Mapping):
        return tuple((repr(key), _print_of(item, depth + 1)) for key, item in value.items())
    if isinstance(value, Sequence):
        return tuple(_print_of(item, depth + 1) for item in value)
    if isinstance(value, Set):
        return tuple(sorted(repr(item) for item in value))
    return ("object", type(value).__name__, id(value))
