"""Suites from a program, and what their records give: frames, plots, tables, comparisons."""

import builtins
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prunebench as pb
from prunebench.api import notebook
from prunebench.errors import OutputError, SuiteError, UsageError
from prunebench.report.output.frame import FRAME_COLUMNS
from prunebench.suite.file import load_suite
from tests.helpers.paths import ROOT

SMOKE = ROOT / "results" / "reference" / "smoke"


@pytest.fixture
def results(write_suite: Callable[..., Path], tmp_path: Path) -> Any:
    return pb.run(write_suite(), tmp_path / "out", in_process=True)


def test_a_suite_from_a_file_a_mapping_and_an_object(write_suite: Callable[..., Path], world: Path) -> None:
    path = write_suite()
    suite = load_suite(path)
    content = {**suite.model_dump(mode="json"), "models": [str(world / "model")]}
    planned = [[cell.id for cell in pb.plan(given)] for given in (path, str(path), suite, content)]
    assert len(planned[0]) == 5
    assert planned[1:] == planned[:1] * 3
    assert [cell.method for cell in pb.plan(path, only="wanda", overrides=["sparsities=[0.3]"])] == ["wanda"]


def test_run_gives_the_records_and_reads_them_again(results: Any, write_suite: Callable[..., Path]) -> None:
    assert [record.status for record in results] == ["ok"] * 5
    assert not results.failed
    assert isinstance(results[0], pb.Record)
    assert len(results[1:]) == 4
    assert {record.cell.id for record in pb.read_records(results.folder)} == {record.cell.id for record in results}
    again = pb.run(write_suite(), results.folder, in_process=True)
    assert [record.digest for record in again] == [record.digest for record in results]
    assert "magnitude" in results.tables()
    assert repr(results) == f"Results(5 records, in {results.folder})"


def test_a_frame_holds_each_measurement_with_all_its_columns(results: Any) -> None:
    pytest.importorskip("pandas")
    frame = results.to_frame()
    assert list(frame.columns) == list(FRAME_COLUMNS)
    assert len(frame) == 5
    assert frame.sparsity.dtype == float
    assert sorted(frame.sparsity) == [0.0, 0.5, 0.5, 0.5, 0.5]
    assert set(frame.pattern) == {"0", "0.5", "2:4"}
    row = frame[(frame.method == "wanda") & (frame.pattern == "0.5")].iloc[0]
    (record,) = (r for r in results if r.cell.method == "wanda" and r.cell.sparsity == "0.5")
    (expected,) = record.perplexity.values()
    assert (row.measure, row.value, row.stderr) == ("perplexity", expected.value, expected.stderr)
    assert row.options == record.cell.options
    assert row.prune_seconds == record.cost.prune_seconds
    assert row.device == record.environment["device"]
    assert row.commit == record.environment["git_commit"]
    assert row.reached == record.sparsity.reached


def test_a_failed_cell_has_one_row(results: Any) -> None:
    pytest.importorskip("pandas")
    record = results[-1].model_copy(
        update={"status": "failed", "error": None, "perplexity": {}, "sparsity": None, "measures": {}}
    )
    frame = type(results)((record,), results.folder).to_frame()
    assert len(frame) == 1
    assert frame.measure[0] is None or math.isnan(frame.measure[0])
    assert frame.sparsity[0] == 0.5


def test_without_pandas(results: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"to_frame\(\) needs pandas: pip install 'prunebench\[frame\]'"):
        results.to_frame()


def test_plots(results: Any, tmp_path: Path) -> None:
    figures = results.plot()
    assert len(figures) == 2  # of the ratios, and of the patterns of n:m
    assert figures._repr_html_().count("<svg") == 2
    paths = figures.save(tmp_path / "plots", "pdf")
    assert len(paths) == 2
    assert all(path.read_bytes().startswith(b"%PDF") for path in paths)
    with pytest.raises(UsageError, match="these records have no plots of 'perplexty': did you mean 'perplexity'"):
        results.plot("perplexty")
    with pytest.raises(UsageError, match="style is 'png': valid: svg, pdf"):
        figures.save(tmp_path, "png")


def test_compare(results: Any) -> None:
    comparison = pb.compare(results, str(results.folder))
    assert comparison.exit_code == 0
    assert comparison.compared == 5
    loose = pb.compare(results, results, {"perplexity": 0.5})
    assert loose.tolerances.perplexity == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pb.run(3), r"suite is 3 \(int\): give a YAML file, a mapping with its keys, or a Suite"),
        (lambda: pb.plan("nowhere.yaml"), "cannot read the suite nowhere.yaml: No such file"),
        (lambda: pb.plan({"nme": "x"}), "the suite: unknown key 'nme': did you mean 'name'"),
        (lambda: pb.plan(ROOT / "suites" / "smoke.yaml", only="wandb"), "--only 'wandb': the suite has no such"),
        (lambda: pb.plan(ROOT / "suites" / "smoke.yaml", device="gpu"), "unknown device 'gpu'"),
        (lambda: pb.plan(ROOT / "suites" / "smoke.yaml", overrides="seeds"), "--set 'seeds' is no key=value"),
        (lambda: pb.plan(ROOT / "suites" / "smoke.yaml", plugins="nowhere.py"), "there is no plugin file"),
        (lambda: pb.run(ROOT / "suites" / "smoke.yaml", 3), r"3 \(int\) is no folder: give a path"),
        (lambda: pb.read_records("nowhere"), "there is no results folder nowhere: run a suite first"),
        (lambda: pb.compare("nowhere", "nowhere"), "there is no results folder nowhere"),
        (lambda: pb.compare(SMOKE, SMOKE, {"perplexty": 1}), "tolerances is .*: valid keys: perplexity, accuracy"),
        (lambda: pb.compare(SMOKE, SMOKE, 3), r"tolerances is 3 \(int\): give a mapping, as {'perplexity': 0.01}"),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((UsageError, SuiteError, OutputError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_progress_in_a_notebook(
    write_suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook, "output_cell", lambda: shown.append)
    pb.run(write_suite(), tmp_path / "out", in_process=True)
    lines = shown[-1].splitlines()
    assert lines[0] == "5 cells: 5 to run"
    assert len(lines) == 6
    assert all(": ok, test/stream-16" in line for line in lines[1:])
    assert any("wanda" in text and "· prune" in text for text in shown)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"engine": "rai"}, "unknown engine 'rai'"),
        ({"engine": {"nam": "ray"}}, "engine is .*unknown key 'nam': did you mean 'name'"),
        ({"workers": 0}, r"workers is 0 \(int\): give a number from 1"),
        ({"workers": 2}, "--in-process runs one cell at a time"),
        ({"engine": "slurm"}, "an array job runs a command: use prunebench run SUITE --on slurm"),
    ],
)
def test_where_cells_cannot_run(
    asked: dict[str, Any], message: str, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        pb.run(write_suite(), tmp_path / "out", in_process=True, **asked)
