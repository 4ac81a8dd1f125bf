"""What a plan leaves out: sparsities that a method is not for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.errors import MethodError, SuiteError
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.command_line import prunebench

FOR = """
from dataclasses import dataclass
from typing import ClassVar
from prunebench import hookimpl
from prunebench.pruning import prunable


@dataclass(frozen=True)
class Mine:
    patterns: ClassVar[tuple[str, ...]] = {patterns}

    @hookimpl
    def prune(self, model, sparsity):
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FOR.format(patterns='("unstructured",)'))
    return tmp_path / "mine.py"


def test_what_a_method_is_not_for_is_skipped_in_one_line(
    write_suite: Callable[..., Path], file: Path, tmp_path: Path
) -> None:
    suite = write_suite(methods="methods: [dense, mine, magnitude]")
    told: list[str] = []
    cells = plan(load_suite(suite), plugin_files=[file], tell=told.append)
    planned = [(cell.method, str(cell.sparsity)) for cell in cells]
    assert planned == [("dense", "0"), ("mine", "0.5"), ("magnitude", "0.5"), ("magnitude", "2:4")]
    assert told == ["mine is for unstructured sparsity: skipped at 2:4"]
    result = prunebench("run", suite, "--plugin", file, "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert "\nmine is for unstructured sparsity: skipped at 2:4\n" in result.stderr
    row = next(line for line in result.stdout.splitlines() if line.startswith("mine "))
    assert "–" in row


def test_a_suite_of_which_nothing_is_left(write_suite: Callable[..., Path], file: Path) -> None:
    suite = write_suite(methods="methods: [mine]", sparsities="sparsities: [2:4]")
    with pytest.raises(SuiteError, match="there is no cell to run: no method is for a sparsity that it is asked for"):
        plan(load_suite(suite), plugin_files=[file])


@pytest.mark.parametrize("patterns", ['"unstructured"', "()", '("blocks",)'])
def test_kinds_that_are_none(patterns: str, write_suite: Callable[..., Path], file: Path) -> None:
    file.write_text(FOR.format(patterns=patterns))
    with pytest.raises(MethodError, match=r"says patterns = .*: give a tuple of kinds; valid: unstructured, n:m"):
        plan(load_suite(write_suite(methods="methods: [mine]")), plugin_files=[file])


def test_methods_that_train_may_be_asked_for_nothing(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    suite = write_suite(methods="methods: [{name: elsa, options: {steps: 8}}, wanda]", sparsities="sparsities: [0]")
    result = prunebench("run", suite, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
