"""What makes a cell run again, what does not, and that ``plan`` says why."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import prunebench.suite.planning
from prunebench.cli.app import app
from prunebench.errors import MethodError
from prunebench.registry import entry_points
from prunebench.runner.in_process import InProcess
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.identity import reason_to_run
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay

METHOD = '''
from dataclasses import dataclass
from prunebench import hookimpl
from prunebench.pruning import prunable
from scores_of_the_test import scores


@dataclass(frozen=True)
class Mine:
    """A method.

    Args:
        power: of the weights.
    """

    power: float = 1.0

    @hookimpl
    def prune(self, model, sparsity):
        """Prune."""
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask(scores(layer.weight)), 0)
'''


@pytest.fixture
def sweep(tmp_path: Path, write_suite: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> "Sweep":
    monkeypatch.syspath_prepend(tmp_path)
    return Sweep(tmp_path, write_suite, monkeypatch)


class Sweep:
    """A suite with one method of a plugin file, and its results."""

    def __init__(self, folder: Path, write_suite: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.file, self.beside, self.output = folder / "mine.py", folder / "scores_of_the_test.py", folder / "out"
        self.file.write_text(METHOD)
        self.beside.write_text("def scores(W):\n    return W.abs()\n")
        self.write_suite = write_suite
        self.forget_modules()
        self.write()

    def write(self, **lines: str) -> None:
        self.suite = self.write_suite(**{"methods": "methods: [mine]", "sparsities": "sparsities: [0.5]", **lines})

    def invoke(self, command: str, *options: str) -> Any:
        where = ("--output", str(self.output), "--plugin", str(self.file))
        self.forget_modules()
        result = CliRunner().invoke(app, [command, str(self.suite), *where, *options])
        assert result.exit_code == 0, result.output
        return result

    def forget_modules(self) -> None:
        """As a new process, which users start for each command, would."""
        for name in [*sys.modules]:
            if name.startswith("prunebench_file_") or name.endswith("_of_the_test"):
                del sys.modules[name]

    def run(self) -> None:
        self.invoke("run", "--in-process")

    def plan(self) -> list[dict[str, Any]]:
        """What ``plan`` says of each cell."""
        cells: list[dict[str, Any]] = json.loads(self.invoke("plan", "--no-forecast", "--json").stdout)
        return cells

    def reason(self) -> str | None:
        (cell,) = self.plan()
        assert (cell["record"] == "ok") == (cell["reason"] is None), cell
        return cell["reason"] and str(cell["reason"])

    def edit(self, file: Path, before: str, after: str) -> None:
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))


@pytest.mark.slow
def test_an_edit_runs_again_and_a_comment_does_not(sweep: Sweep) -> None:
    (first,) = sweep.plan()
    assert (first["record"], first["reason"]) == (None, None)
    sweep.run()
    assert sweep.reason() is None
    for file, before, after in (
        (sweep.file, '"""Prune."""', '"""Another text."""  # and a comment'),
        (sweep.beside, "    return", "    # by size\n    return"),
    ):
        sweep.edit(file, before, after)
        assert sweep.reason() is None
    sweep.edit(sweep.beside, "W.abs()", "-W.abs()")
    assert sweep.reason() == "code of mine changed"
    sweep.edit(sweep.file, "power: float = 1.0", "power: float = 2.0")
    assert sweep.reason() == "code of mine changed; options changed: power 1.0 → 2.0"
    assert "to run: code of mine" in " ".join(sweep.invoke("plan", "--no-forecast").stdout.split())
    sweep.run()
    assert sweep.reason() is None


def test_a_copy_with_other_facts_has_another_id(write_suite: Callable[..., Path]) -> None:
    """Though the id of the first was worked out already."""
    cell = plan(load_suite(write_suite()))[1]
    before = cell.id
    other = cell.model_copy(update={"seed": 7})
    assert other.id == Cell.from_json(other.to_json()).id != before
    assert cell.model_copy().id == before == cell.id
    assert cell.model_copy() == cell


def test_a_stated_revision_stands_for_the_code(sweep: Sweep) -> None:
    sweep.edit(sweep.file, "    power: float", "    revision = 1\n    power: float")
    sweep.run()
    sweep.edit(sweep.beside, "W.abs()", "abs(W)")
    assert sweep.reason() is None
    sweep.edit(sweep.file, "revision = 1", "revision = 2")
    assert sweep.reason() == "revision of mine changed: 1 → 2"


def test_the_newest_of_several_records_tells(sweep: Sweep) -> None:
    sweep.run()
    time.sleep(1.1)  # records tell their start to the second
    sweep.edit(sweep.file, "    power: float", "    revision = 1\n    power: float")
    sweep.run()
    sweep.edit(sweep.file, "revision = 1", "revision = 2")
    assert sweep.reason() == "revision of mine changed: 1 → 2"


def test_a_revision_that_does_not_count_is_told_of(sweep: Sweep) -> None:
    sweep.edit(sweep.file, "    power: float", "    revision = 1\n    power: float")
    sweep.run()
    sweep.file.write_text(f"{sweep.file.read_text()}\nMine.prune = hookimpl(lambda self, model, sparsity: None)\n")
    line = len(sweep.file.read_text().splitlines())
    assert sweep.reason() == (
        "code of mine changed; the revision that mine states does not count, "
        f"since line {line} assigns to attributes of Mine (mine.py)"
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ({"methods": "methods: [{name: mine, options: {power: 3.0}}]"}, "options changed: power 1.0 → 3.0"),
        ({"calibration": "nsamples: 4"}, "calibration changed: nsamples 8 → 4"),
        ({"evaluations": "seqlen: 8"}, "evaluation test/stream-16 was removed; evaluation test/stream-8 was added"),
        ({"models": "dtype: bfloat16"}, "dtype changed: 'float32' → 'bfloat16'"),
    ],
)
def test_what_else_changed_is_said(sweep: Sweep, world: Path, lines: dict[str, str], reason: str) -> None:
    sweep.run()
    texts = {
        "methods": lines.get("methods", "methods: [mine]"),
        "calibration": f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 16}}",
        "evaluations": f"evaluations: [{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: 16}}]",
        "models": f"models: [{{id: {world / 'model'}, dtype: float32}}]",
    }
    for key, part in lines.items():
        name = part.partition(":")[0]
        if key != "methods":
            before = texts[key].partition(f"{name}: ")[2].partition(",")[0].partition("}")[0]
            texts[key] = texts[key].replace(f"{name}: {before}", part)
    sweep.write(**texts)
    assert sweep.reason() == reason


def test_another_model_another_toolkit(sweep: Sweep, tmp_path: Path, world: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    sweep.write(models=f"models: [{tmp_path / 'model'}]")
    sweep.run()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"x": 1}))
    assert sweep.reason() == "files of the model changed"
    sweep.monkeypatch.setattr(prunebench.suite.planning, "REVISION", 99)
    assert str(sweep.reason()).startswith("toolkit's revision changed: 1 → 99; files of the model")


def test_a_failure_and_a_record_of_another_version(sweep: Sweep) -> None:
    sweep.edit(sweep.beside, "return W.abs()", "raise ValueError('no idea')")
    where = ("--output", str(sweep.output), "--plugin", str(sweep.file), "--in-process")
    assert CliRunner().invoke(app, ["run", str(sweep.suite), *where]).exit_code == 1
    assert sweep.reason() == "it failed before"


def test_versions_and_names_of_distributions_do_not_count(sweep: Sweep) -> None:
    (cell,) = plan(load_suite(sweep.suite), plugin_files=[sweep.file])
    other = cell.model_copy(update={"version": "99", "distribution": "renamed", "plugin_file": "/elsewhere.py"})
    assert other.id == cell.id
    assert cell.model_copy(update={"code": "another"}).id != cell.id
    assert cell.model_copy(update={"toolkit": cell.toolkit + 1}).id != cell.id


WRAPPER = """
import pluggy
from prunebench import hookimpl


class Profiler:
    @hookimpl(wrapper=True)
    def prune(self):
        return (yield)
"""


def test_wrappers_are_part_of_a_cell(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep.run()
    (tmp_path / "profiler_of_the_test.py").write_text(WRAPPER)
    point = EntryPoint("profiler", "profiler_of_the_test:Profiler", entry_points.WRAPPERS)
    real = entry_points.entry_points

    def with_wrapper(group: str) -> EntryPoints:
        return EntryPoints([*real(group=group), *([point] if group == entry_points.WRAPPERS else [])])

    monkeypatch.setattr(entry_points, "entry_points", with_wrapper)
    assert sweep.reason() == "wrapper profiler was installed"
    sweep.run()
    (tmp_path / "profiler_of_the_test.py").write_text(WRAPPER + "# a comment\n")
    assert sweep.reason() is None
    (tmp_path / "profiler_of_the_test.py").write_text(WRAPPER.replace("return (yield)", "yield"))
    assert sweep.reason() == "code of the wrapper profiler changed"


def test_the_code_of_evaluations_allocations_and_corpora_is_part_of_a_cell(
    write_suite: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cell() -> Cell:
        lines = {
            "calibration": "calibration: {corpus: builtin/tinyworld, nsamples: 8, seqlen: 16}",
            "methods": "methods: [wanda]",
            "sparsities": "sparsities: [0.5]",
        }
        return plan(load_suite(write_suite(allocation="allocation: owl", **lines)))[0]

    first = cell()
    assert first.allocation_rule is not None
    codes = (first.code, first.allocation_rule.code, first.calibration.code, first.evaluations[0].facts["code"])
    assert codes == ("prunebench revision 1",) * 4
    real = entry_points.Source.code
    monkeypatch.setattr(entry_points.Source, "load", lambda self: self.point.load())
    for kind, name in (("allocation", "owl"), ("corpus", "builtin/tinyworld"), ("evaluation", "perplexity")):
        new = property(lambda self, name=name: "another" if self.name == name else real.fget(self))
        monkeypatch.setattr(entry_points.Source, "code", new)
        assert cell().id != first.id, kind


def test_code_edited_while_a_sweep_runs_is_not_taken_for_what_was_planned(sweep: Sweep) -> None:
    cells = plan(load_suite(sweep.suite), plugin_files=[sweep.file])
    sweep.edit(sweep.beside, "W.abs()", "-W.abs()")
    sweep.forget_modules()
    (record,) = run_suite(cells, sweep.output, SilentDisplay(), executor=InProcess())
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.message.startswith("the code of 'mine' was edited after the suite was planned (")
    assert reason_to_run(cells[0], [record]) == "it failed before"


def test_code_edited_after_this_process_imported_it_is_not_run_as_if_it_were_new(sweep: Sweep) -> None:
    plan(load_suite(sweep.suite), plugin_files=[sweep.file])
    sweep.edit(sweep.beside, "W.abs()", "W.abs()  # a comment")
    plan(load_suite(sweep.suite), plugin_files=[sweep.file])
    sweep.edit(sweep.beside, "W.abs()", "-W.abs()")
    with pytest.raises(MethodError, match="the code of 'mine' was edited after this process imported it: start a new"):
        plan(load_suite(sweep.suite), plugin_files=[sweep.file])
