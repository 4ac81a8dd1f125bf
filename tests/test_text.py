"""Numbers, amounts and names as text."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from prunebench import text


@pytest.mark.parametrize(
    ("show", "value", "shown"),
    [
        (text.number, 5.24, "5.240"),
        (text.number, 123.456, "123.5"),
        (text.number, 32273.02, "32273"),
        (text.number, 3.2e8, "3.20e+08"),
        (text.seconds, 1.7e-5, "<0.001 s"),
        (text.seconds, 0.0123, "0.012 s"),
        (text.seconds, 59.7, "1 min 00 s"),
        (text.seconds, 7500, "2 h 05 min"),
        (text.count, 9999, "9999"),
        (text.count, 2_097_152, "2.1 M"),
        (text.size, 3.5e9, "3.26 GiB"),
        (text.printable, "a\x1b]0;x\x07\u202e\u200b\n\tb\ud800", "a]0;x b"),
    ],
)
def test_numbers_and_names(show: Callable[[Any], str], value: Any, shown: str) -> None:
    assert show(value) == shown


@pytest.mark.parametrize(
    ("show", "value"),
    [
        (text.number, 5.24),
        (text.number, 1.23e6),
        (text.number, math.inf),
        (text.seconds, 0.42),
        (text.seconds, 200.0),
        (text.seconds, 7500.0),
        (text.count, 512.0),
        (text.count, 2.1e6),
        (text.size, 640.0 * (1 << 20)),
        (text.size, 3.25 * (1 << 30)),
    ],
)
def test_a_column_is_sorted_by_the_amounts_it_shows(show: Callable[[float], str], value: float) -> None:
    assert text.sort_key(show(value)) == value
    assert text.sort_key(f"{show(value)} ± 1.5") == value
    assert text.sort_key(f"{show(value)} to 7 s") == value


@pytest.mark.parametrize(
    ("entry", "value"),
    [("2:4", 0.5), ("1:4", 0.75), ("–", None), ("failed", None), ("2:0", None), (f"2:{'9' * 5000}", 2.0)],
)
def test_amounts_of_patterns_and_of_what_is_missing(entry: str, value: float | None) -> None:
    assert text.sort_key(entry) == value


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((2.0, None, 1.0, 1.5), "1.0 s to 2.0 s"),
        ((1.0, 1.001), "1.0 s"),
        ((None,), "–"),
        ((), "–"),
    ],
)
def test_a_span_has_two_ends_where_they_read_differently(values: tuple[float | None, ...], shown: str) -> None:
    assert text.span(values, text.seconds) == shown


def test_a_message_on_a_terminal_is_broken_between_words_alone() -> None:
    path = "/a/long/" + "path/" * 20 + "with-hyphens"
    line = f"error: cannot read the suite {path}: there is no such file; write prunebench-suites by hand"
    shown = text.hanging(line, 40)
    assert " ".join(shown.split()) == line
    assert path in shown
    assert all(len(part) <= 40 for part in shown.splitlines() if path not in part)
    assert all(part.startswith("    ") for part in shown.splitlines()[1:])
    assert text.hanging("short", 40) == "short"
