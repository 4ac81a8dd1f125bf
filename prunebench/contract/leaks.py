"""State that a method leaves behind from one call to the next; there should be none."""

import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from torch import Tensor

MAX_DEPTH = 4  # of containers within containers


def leakable_state(method: Any) -> dict[str, object]:
    """Fingerprints of everything that a call of ``prune`` could leave in the method for the next one.

    Looks at the instance, its classes, and the globals of the module that defines it, but not at caches of
    ``functools``, which are internal to a function.

    Args:
        method: an instance.

    Returns:
        Name of the variable, as "self.cache" → a value that differs once the variable was written to.
    """
    return {name: _fingerprint(value) for name, value in _variables(method)}


def _variables(method: Any) -> Iterator[tuple[str, Any]]:
    cls = type(method)
    for name, value in getattr(method, "__dict__", {}).items():
        yield f"self.{name}", value
    namespaces: list[tuple[str, Mapping[str, Any]]] = [
        (base.__name__, vars(base)) for base in cls.__mro__ if base is not object
    ]
    namespaces.append((cls.__module__, vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}))
    for namespace, content in namespaces:
        for name, value in list(content.items()):
            if not name.startswith("__") and not callable(value):
                yield f"{namespace}.{name}", value


def _fingerprint(value: Any, depth: int = 0) -> object:
    """A comparable value that changes when ``value`` is written to."""
    if isinstance(value, Tensor):
        return ("tensor", id(value), value._version)
    if isinstance(value, np.ndarray):
        return ("array", id(value), value.tobytes())
    if isinstance(value, str | bytes | int | float | complex | None):
        return repr(value)
    if depth == MAX_DEPTH:
        return type(value).__name__
    if isinstance(value, Mapping):
        return tuple((repr(key), _fingerprint(item, depth + 1)) for key, item in value.items())
    if isinstance(value, Sequence):
        return tuple(_fingerprint(item, depth + 1) for item in value)
    if isinstance(value, Set):
        return tuple(sorted(repr(item) for item in value))
    return ("object", type(value).__name__, id(value))
