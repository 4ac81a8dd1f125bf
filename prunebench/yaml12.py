"""A YAML 1.2 loader with limits: ``2:4`` is a string, ``1e-3`` a number, ``no`` a string, a repeated key an error.

Only strings, numbers, booleans, null, lists and mappings are read, and the size, depth and number of values are
bounded, counted with aliases expanded.
"""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from prunebench.files import MEBIBYTE, read_regular_file
from prunebench.records.canonical_json import MAX_DEPTH

MAX_BYTES, MAX_NODES, MAX_ALIASES = 4 * MEBIBYTE, 100_000, 1000

_KINDS = ("bool", "float", "int", "null", "merge", "str", "seq", "map")
_BOOL, _FLOAT, _INT, _NULL, _MERGE, _STR, _SEQ, _MAP = (f"tag:yaml.org,2002:{kind}" for kind in _KINDS)


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalar rules of YAML 1.2 (PyYAML's are 1.1: ``2:4`` is 124 there, ``1e-3`` text)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - a fresh table instead of the parent's
    yaml_constructors = {}  # noqa: RUF012 - no dates, sets, binary data

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = self._aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count depth, values and aliases, and stop at the limits before the work grows."""
        self._depth, self._nodes = self._depth + 1, self._nodes + 1
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
        for amount, limit, what in (
            (self._depth, MAX_DEPTH, "levels"),
            (self._nodes, MAX_NODES, "values"),
            (self._aliases, MAX_ALIASES, "aliases"),
        ):
            if amount > limit:
                raise _yaml_error(self.peek_event(), f"more than {limit} {what}")  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        """The document's root node, after checking its size with aliases expanded."""
        node = super().get_single_node()
        if node is not None:
            _expanded_size(node, {})
        return node


def _yaml_error(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _expanded_size(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Number of values and depth of a node with aliases expanded; recursion ends at ``MAX_DEPTH``."""
    if id(node) in known:
        size_and_depth = known[id(node)]
        if size_and_depth is None:
            raise _yaml_error(node, "an alias stands inside of what it names")
        return size_and_depth
    known[id(node)] = None
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes = [_expanded_size(child, known) for child in children]
    size, depth = 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
    if size > MAX_NODES or depth > MAX_DEPTH:
        raise _yaml_error(node, f"aliases unfold to more than {MAX_NODES} values or {MAX_DEPTH} levels")
    known[id(node)] = size, depth
    return size, depth


def _mapping(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    """Construct a mapping; a repeated key is an error, not an override."""
    if not isinstance(node, yaml.MappingNode):
        raise _yaml_error(node, "this is no mapping")
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _yaml_error(key_node, f"the key {key!r} is no word")
        if key in seen:
            raise _yaml_error(key_node, f"the key {key!r} stands twice")
        seen.add(key)
    loader.flatten_mapping(node)
    # Not construct_mapping: it would share one object between an anchor and its aliases.
    return {loader.construct_object(key, deep=True): _construct_unshared(loader, value) for key, value in node.value}


def _sequence(loader: _Loader, node: yaml.Node) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        raise _yaml_error(node, "this is no list")
    return [_construct_unshared(loader, part) for part in node.value]


def _construct_unshared(loader: _Loader, node: yaml.Node) -> Any:
    value = loader.construct_object(node, deep=True)
    loader.constructed_objects.pop(node, None)
    return value


def _scalar_constructor(make: Callable[[str], Any]) -> Callable[[_Loader, yaml.Node], Any]:
    def construct(loader: _Loader, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise _yaml_error(node, f"a list or mapping cannot be {node.tag.rpartition(':')[2]}")
        try:
            return make(node.value)
        except (ValueError, KeyError):
            shown = node.value if len(node.value) <= 40 else f"{node.value[:40]}…"
            raise _yaml_error(node, f"{shown!r} is no {node.tag.rpartition(':')[2]} that can be used here") from None

    return construct


def _string(text: str) -> str:
    """A string; refuses control characters other than white space, and surrogates, which cannot be encoded."""
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text.translate(_WHITE_SPACE)):
        raise ValueError
    return text


_WHITE_SPACE = dict.fromkeys(map(ord, "\t\n\r"))


def _integer(text: str) -> int:
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError
    return value


def _float(text: str) -> float:
    return float(re.sub(r"^([-+]?)\.(?=[inIN])", r"\1", text))


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
for _tag, _make in (
    (_BOOL, lambda text: {"true": True, "false": False}[text.lower()]),
    (_INT, _integer),
    (_FLOAT, _float),
    (_NULL, lambda text: None),
    (_STR, _string),
):
    _Loader.add_constructor(_tag, _scalar_constructor(_make))
_Loader.add_constructor(_MAP, _mapping)
_Loader.add_constructor(_SEQ, _sequence)
_Loader.add_constructor(None, lambda loader, node: _refuse_tag(node))


def _refuse_tag(node: yaml.Node) -> Any:
    shown = node.tag.replace("tag:yaml.org,2002:", "!!")
    raise _yaml_error(node, f"values of the kind {shown!r} are not read: quote it, or leave the tag out")


def read_yaml(text: str) -> Any:
    """Parse one YAML document.

    Raises:
        yaml.YAMLError: the text is no valid YAML, repeats a key, or exceeds a limit: ``MAX_NODES`` values,
            ``MAX_ALIASES`` aliases or ``MAX_DEPTH`` levels, counted with aliases expanded.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, IndexError, OverflowError) as error:  # PyYAML lets these through, as on "\UFFFFFFFF"
        raise yaml.YAMLError(str(error).partition("\n")[0]) from None


def read_yaml_file(path: Path) -> Any:
    """Parse a UTF-8 file of one YAML document.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than ``MAX_BYTES``.
        UnicodeDecodeError: it is not UTF-8.
        yaml.YAMLError: see ``read_yaml``.
    """
    return read_yaml(read_regular_file(path, MAX_BYTES).decode("utf-8"))


def error_line(error: yaml.YAMLError) -> str:
    """A YAML error as one line: its line number and its message."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {_truncated(str(error.problem))}"
    return _truncated(str(error))


def _truncated(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}…"
