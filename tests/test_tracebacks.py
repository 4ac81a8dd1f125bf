"""What is told of an exception that somebody's code raised."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunebench.cli.app import app
from prunebench.errors import MethodError
from prunebench.pruning import Unstructured
from prunebench.records.store import read_records
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.testing.conformance import check
from prunebench.tracebacks import author_line, describe_error, plain_traceback
from tests.helpers import tiny

METHOD = '''
from dataclasses import dataclass

import torch

from prunebench import hookimpl
from prunebench.pruning import FeatureNorm, calibrated


@dataclass(frozen=True)
class Failing:
    """A method."""

    @hookimpl
    def prune(self, model, data, sparsity):
        """Prune."""
        for layer, norm, target in calibrated(model, data, sparsity, FeatureNorm):
            step(layer.weight)


def step(W):
    return torch.nn.Linear(7, 3)(W)  # the author's line
'''
LINE = 1 + METHOD[: METHOD.index("# the author's line")].count("\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "failing.py").write_text(METHOD)
    return tmp_path / "failing.py"


def raised(function: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        function()
    return caught.value


def test_a_record_the_terminal_and_the_kit_tell_the_author_s_line(
    file: Path, tmp_path: Path, write_suite: Callable[..., Path]
) -> None:
    suite = write_suite(methods="methods: [failing]", sparsities="sparsities: [0.5]")
    where = ["--plugin", str(file), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["run", str(suite), *where, "--in-process"])
    assert result.exit_code == 1
    (record,) = read_records(tmp_path / "out")
    assert record.error is not None
    assert record.error.message.endswith(f"(failing.py, line {LINE})")
    assert f"(failing.py, line {LINE})" in " ".join(result.stderr.split())
    trace = record.error.traceback
    assert trace is not None
    assert trace.startswith("Traceback (most recent call last):")
    assert f'failing.py", line {LINE}, in step\n    return torch.nn.Linear(7, 3)(W)' in trace
    for line in trace.splitlines():
        assert line in result.stderr
    verdict = check("failing", files=[file], architectures=["llama"], patterns=["0.5"]).verdicts["runs"]
    assert verdict.breaches[0][1].endswith(f"(failing.py, line {LINE})")


def test_a_record_from_a_process_of_its_own_has_it_too(
    file: Path, tmp_path: Path, write_suite: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRUNEBENCH_IN_PROCESS")
    suite = write_suite(methods="methods: [failing]", sparsities="sparsities: [0.5]")
    where = ["--plugin", str(file), "--output", str(tmp_path / "out")]
    assert CliRunner().invoke(app, ["run", str(suite), *where]).exit_code == 1
    (record,) = read_records(tmp_path / "out")
    assert record.measured == "reloaded"
    assert record.error is not None
    assert record.error.message.endswith(f"(failing.py, line {LINE})")
    assert f'failing.py", line {LINE}, in step' in str(record.error.traceback)


def test_the_toolkit_s_frames_do_not_count(file: Path) -> None:
    file.write_text(METHOD.replace("step(layer.weight)", "target.mask(layer.weight[:1])"))
    hook = plugin_manager(load_method("failing", [file]), {}).hook
    error = raised(lambda: hook.prune(model=tiny.llama(), data=tiny.calibration(), sparsity=Unstructured(0.5)))
    raising, line = author_line(error) or (Path(), 0)
    assert (raising.name, METHOD.splitlines()[line - 1].strip()) == ("failing.py", "step(layer.weight)")
    assert "pruning/sparsity.py" in plain_traceback(error)


def test_an_error_of_ours_is_told_as_it_is() -> None:
    assert describe_error(raised(lambda: load_method("wandb"))).startswith("unknown method 'wandb'")
    assert describe_error(MethodError("a\n b")) == "a b"


class Hostile(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no")


def throw(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def test_hostile_exceptions() -> None:
    assert "its message cannot be shown" in describe_error(raised(throw(Hostile())))
    assert "exception str() failed" in plain_traceback(raised(throw(Hostile())))
    long = raised(throw(ValueError("x" * 10**7)))
    assert len(describe_error(long)) < 5000
    assert len(plain_traceback(long)) < 20_000
    steering = plain_traceback(raised(throw(ValueError("a\x1b[2Jb\u202ec"))))
    assert steering.isprintable() or all(line.isprintable() for line in steering.splitlines())


def test_a_deep_recursion_is_bounded() -> None:
    def deep(n: int) -> int:
        return other(n)

    def other(n: int) -> int:
        return deep(n + 1)

    text = plain_traceback(raised(lambda: deep(0)))
    assert text.count("\n") < 300
    assert "RecursionError" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n1 / 0\n", r"ZeroDivisionError: division by zero \(failing\.py, line 2\)"),
        ("import helper\n", r"ValueError: not today \(helper\.py, line 3\)"),
        ("x = 1\ndef f(:\n", r"SyntaxError: invalid syntax \(failing\.py, line 2\)"),
    ],
)
def test_an_import_that_fails_tells_the_line(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    (file.parent / "helper.py").write_text("def f():\n    # a comment\n    raise ValueError('not today')\n\n\nf()\n")
    with pytest.raises(MethodError, match=message):
        load_method("failing", [file])
