"""YAML as a person reads it: ``2:4`` is a string, ``1e-3`` a number, ``no`` a word, and a key stands once."""

import re
from typing import Any

import yaml

_BOOL, _FLOAT, _INT, _NULL, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "null", "merge"))


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalar rules of YAML 1.2 (PyYAML's are 1.1: ``2:4`` is 124 there, ``1e-3`` text)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - a fresh table instead of the parent's


def _no_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Build a mapping; a key that stands twice is an error, not an override."""
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} is no word", problem_mark=key_node.start_mark)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    mapping: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return mapping


for _tag, _pattern, _first in (
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    (_NULL, r"~|null|Null|NULL|", "~nN\0"),
    (_MERGE, r"<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), [*_first, ""] if _tag == _NULL else [*_first])
_Loader.add_constructor("tag:yaml.org,2002:map", _no_duplicates)
_Loader.add_constructor(_INT, lambda loader, node: int(node.value))
_Loader.add_constructor(_FLOAT, lambda loader, node: float(re.sub(r"^([-+]?)\.(?=[inIN])", r"\1", node.value)))


def read_yaml(text: str) -> Any:
    """Parse one YAML document.

    Raises:
        yaml.YAMLError: the text is no YAML, or holds a key twice.
    """
    return yaml.load(text, Loader=_Loader)
