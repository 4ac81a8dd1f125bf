"""The examples in the help of each command: each is one that the program takes, on files that are there."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from prunebench.cli.app import app
from prunebench.cli.completion import method_names
from prunebench.cli.examples import EXAMPLES
from tests.helpers.command_line import prunebench
from tests.helpers.paths import ROOT

PROGRAM = typer.main.get_command(app)
LINES = [(command, line) for command, lines in EXAMPLES.items() for line in lines]


def commands(group: Any = PROGRAM, words: str = "") -> Iterator[tuple[str, Any]]:
    """All commands of the program, those of groups included, by their words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{words}{name} ")
        else:
            yield f"{words}{name}", command


def test_every_command_has_some() -> None:
    assert {words for words, _ in commands()} == EXAMPLES.keys()
    assert all(1 <= len(lines) <= 2 for lines in EXAMPLES.values())


@pytest.mark.parametrize(("command", "line"), LINES)
def test_it_is_a_command(command: str, line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "prunebench"
    assert words[: len(command.split())] == command.split()
    parsed = dict(commands())[command].make_context(command, words[len(command.split()) :])
    assert parsed.args == []


@pytest.mark.parametrize("line", ["run", "run suites/smoke.yaml --onyl wanda", "report x --format docx"])
def test_what_is_none_would_be_found(line: str) -> None:
    command, *words = line.split()
    with pytest.raises(Exception, match=r"(?i)missing|no such option|invalid value|not one of"):
        dict(commands())[command].make_context(command, words)


@pytest.mark.parametrize(("command", "line"), LINES)
def test_what_it_names_is_there(command: str, line: str) -> None:
    words = shlex.split(line)
    for word in words:
        if word.startswith(("suites/", "results/reference/")):
            assert (ROOT / word).exists()
    if "--only" in words:
        assert words[words.index("--only") + 1] in method_names("")
    if command == "reproduce":
        assert (ROOT / "suites" / "paper" / f"{words[2]}.yaml").is_file()


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_fits_80_columns(command: str) -> None:
    shown = prunebench(*command.split(), "--help").stdout.splitlines()
    assert max(map(len, shown)) <= 80
    for line in EXAMPLES[command]:
        assert f"    {line}" in shown
    assert not any("..." in line and "]..." not in line and "}..." not in line for line in shown)  # nothing is cut


def test_summaries_are_not_cut() -> None:
    shown = prunebench("--help").stdout
    assert "..." not in shown.replace("[ARGS]...", "")
