"""What is written as YAML is read within limits, or refused in one line."""

import re
import time
from pathlib import Path

import pytest
import yaml

from prunebench.records.canonical_json import MAX_DEPTH
from prunebench.yaml12 import MAX_ALIASES, MAX_BYTES, MAX_NODES, error_line, read_yaml, read_yaml_file

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, f"aliases unfold to more than {MAX_NODES} values"),
        (MERGES, f"aliases unfold to more than {MAX_NODES} values"),
        ("a: &a [1]\nb: [" + "*a, " * (MAX_ALIASES + 1) + "]", f"line 2: more than {MAX_ALIASES} aliases"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"line 1: more than {MAX_DEPTH} levels"),
        ("[" * 100_000, f"more than {MAX_DEPTH} levels"),
        ("- " * 100_000, f"more than {MAX_DEPTH} levels"),
        ("{a: " * 100_000, f"more than {MAX_DEPTH} levels"),
        ("- x\n" * (MAX_NODES + 1), f"more than {MAX_NODES} values"),
        ("a: &a [*a]", "an alias stands inside of what it names"),
        ("a: &a {b: *a}", "an alias stands inside of what it names"),
        ("&a {*a : 1}", "an alias stands inside of what it names"),
        ("a: *b", "line 1: found undefined alias 'b'"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("a: {b: 1, b: 1}", "the key 'b' stands twice"),
        ("1: a", "the key 1 is no word"),
        ("true: a", "the key True is no word"),
        ("~: a", "the key None is no word"),
        ("[a]: b", r"the key \['a'\] is no word"),
        ("? {a: b}\n: c", "is no word"),
        ("a: " + "9" * 5000, "'9{40}…' is no int that can be used here"),
        ("a: 9223372036854775808", "'9223372036854775808' is no int"),
        ("a: !!int x", "'x' is no int"),
        ("a: !!float x", "'x' is no float"),
        ("a: !!bool x", "'x' is no bool"),
        ("a: !!int [1]", "cannot be int"),
        ("a: !!map x", "this is no mapping"),
        ("a: !!seq x", "this is no list"),
        ("a: !!binary aGk=", "values of the kind '!!binary' are not read"),
        ("a: !!timestamp x", "values of the kind '!!timestamp' are not read"),
        ("a: !!set {x}", "values of the kind '!!set' are not read"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "values of the kind '!!python/object/apply:os.system' are not read",
        ),
        ("a: !mine x", "values of the kind '!mine' are not read"),
        ("a: <<", "values of the kind '!!merge' are not read"),
        ("<<: 3", "expected a mapping or list of mappings"),
        (r'a: "\x1b[31m"', r"'\\x1b\[31m' is no str that can be used here"),
        (r'a: "\0"', "is no str"),
        (r'a: "\ud800"', "is no str"),
        (r'a: "\UFFFFFFFF"', "too large|chr"),
        (r'"\x07": a', "is no str"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("a: [", "line 1: expected the node content"),
        ("\x00", "special characters are not allowed"),
        ("%YAML 3.0\n---\na", "found incompatible YAML document"),
        ("a: @b", "line 1: found character '@'"),
        ("\ta: 1", "line 1: found character"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(yaml.YAMLError) as caught:
        read_yaml(text)
    assert time.monotonic() - began < 60  # and not the age of the universe
    line = error_line(caught.value)
    assert "\n" not in line
    assert len(line) < 200
    assert re.search(words, line), line


def test_what_is_read() -> None:
    assert read_yaml("") is None
    assert read_yaml("a: &x {b: [1, 2]}\nc: *x\nd: {<<: *x, e: 1}") == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": {"b": [1, 2], "e": 1},
    }
    assert read_yaml("{<<: {a: 1}, a: 2}") == {"a": 2}
    assert read_yaml(r'a: "ü 日本 \u202e"') == {"a": "ü 日本 \u202e"}
    assert read_yaml("a: !!str 1") == {"a": "1"}
    assert read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_what_an_alias_names_is_there_twice_and_not_shared() -> None:
    """``--set`` changes one place of a suite, and no other that is written by an alias to it."""
    content = read_yaml("a: &x {b: [1]}\nc: *x\nd: [*x]")
    content["a"]["b"].append(2)
    assert content == {"a": {"b": [1, 2]}, "c": {"b": [1]}, "d": [{"b": [1]}]}


def test_files(tmp_path: Path) -> None:
    (tmp_path / "large").write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(OSError, match="more than the 4 MiB allowed"):
        read_yaml_file(tmp_path / "large")
    with pytest.raises(OSError, match="folder"):
        read_yaml_file(tmp_path)
    (tmp_path / "bom").write_text("\ufeffa: 1", encoding="utf-8")
    assert read_yaml_file(tmp_path / "bom") == {"a": 1}
