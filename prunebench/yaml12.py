"""YAML as a person reads it: ``2:4`` is a string, ``1e-3`` a number, ``no`` a word, and a key stands once.

And as much of it as a person writes: words, numbers, lists and mappings, of a bounded size, whatever the aliases in it
unfold to.
"""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from prunebench.files import MEBIBYTE, read_regular
from prunebench.records.canonical_json import DEPTH

SIZE, NODES, ALIASES = 4 * MEBIBYTE, 100_000, 1000

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
        """Count what is made, so that it ends before it takes long."""
        self._depth, self._nodes = self._depth + 1, self._nodes + 1
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
        for amount, limit, what in (
            (self._depth, DEPTH, "levels"),
            (self._nodes, NODES, "values"),
            (self._aliases, ALIASES, "aliases"),
        ):
            if amount > limit:
                raise _refused(self.peek_event(), f"more than {limit} {what}")  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        """The document, once it is known what its aliases unfold to."""
        node = super().get_single_node()
        if node is not None:
            _unfolded(node, {})
        return node


def _refused(place: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _unfolded(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node unfolds to, and how deep; no deeper into Python's stack than ``DEPTH``."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise _refused(node, "an alias stands inside of what it names")
        return found
    known[id(node)] = None
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes = [_unfolded(child, known) for child in children]
    size, depth = 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
    if size > NODES or depth > DEPTH:
        raise _refused(node, f"aliases unfold to more than {NODES} values or {DEPTH} levels")
    known[id(node)] = size, depth
    return size, depth


def _mapping(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    """Build a mapping; a key that stands twice is an error, not an override."""
    if not isinstance(node, yaml.MappingNode):
        raise _refused(node, "this is no mapping")
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _refused(key_node, f"the key {key!r} is no word")
        if key in seen:
            raise _refused(key_node, f"the key {key!r} stands twice")
        seen.add(key)
    loader.flatten_mapping(node)
    # Not construct_mapping: each place gets a value of its own, even where an alias names it.
    return {loader.construct_object(key, deep=True): _own(loader, value) for key, value in node.value}


def _sequence(loader: _Loader, node: yaml.Node) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        raise _refused(node, "this is no list")
    return [_own(loader, part) for part in node.value]


def _own(loader: _Loader, node: yaml.Node) -> Any:
    value = loader.construct_object(node, deep=True)
    loader.constructed_objects.pop(node, None)
    return value


def _scalar(make: Callable[[str], Any]) -> Callable[[_Loader, yaml.Node], Any]:
    def construct(loader: _Loader, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise _refused(node, f"a list or mapping cannot be {node.tag.rpartition(':')[2]}")
        try:
            return make(node.value)
        except (ValueError, KeyError):
            shown = node.value if len(node.value) <= 40 else f"{node.value[:40]}…"
            raise _refused(node, f"{shown!r} is no {node.tag.rpartition(':')[2]} that can be used here") from None

    return construct


def _word(text: str) -> str:
    """Text without what steers a terminal or cannot be written: control characters, halves of characters."""
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text.translate(_WHITE)):
        raise ValueError
    return text


_WHITE = dict.fromkeys(map(ord, "\t\n\r"))


def _whole_number(text: str) -> int:
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError
    return value


def _number(text: str) -> float:
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
    (_INT, _whole_number),
    (_FLOAT, _number),
    (_NULL, lambda text: None),
    (_STR, _word),
):
    _Loader.add_constructor(_tag, _scalar(_make))
_Loader.add_constructor(_MAP, _mapping)
_Loader.add_constructor(_SEQ, _sequence)
_Loader.add_constructor(None, lambda loader, node: _unknown(node))


def _unknown(node: yaml.Node) -> Any:
    shown = node.tag.replace("tag:yaml.org,2002:", "!!")
    raise _refused(node, f"values of the kind {shown!r} are not read: quote it, or leave the tag out")


def read_yaml(text: str) -> Any:
    """Parse one YAML document.

    Raises:
        yaml.YAMLError: the text is no YAML, holds a key twice, or more than a person would write: more than ``NODES``
            values or ``ALIASES`` aliases, or levels deeper than ``DEPTH``, with its aliases unfolded.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, IndexError, OverflowError) as error:  # PyYAML's own slips, as on "\UFFFFFFFF"
        raise yaml.YAMLError(str(error).partition("\n")[0]) from None


def read_yaml_file(path: Path) -> Any:
    """Parse a file of one YAML document, in UTF-8.

    Raises:
        OSError: it cannot be read, is no regular file, or holds more than ``SIZE`` bytes.
        UnicodeDecodeError: it is no text in UTF-8.
        yaml.YAMLError: see ``read_yaml``.
    """
    return read_yaml(read_regular(path, SIZE).decode("utf-8"))


def one_line(error: yaml.YAMLError) -> str:
    """What a YAML error says, and in which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {_cut(str(error.problem))}"
    return _cut(str(error))


def _cut(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 300 else f"{plain[:300]}…"
