"""``benchmarks/gpu_check.py`` in miniature: it runs on a CPU with a handful of packages, and tells right from wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from prunebench.pruning import Target
from tests.helpers.paths import ROOT

NOT_NEEDED = {"typer"}  # transformers requires it for its command line, and by way of it pydantic
NEEDED = ("torch", "transformers", "triton", "numpy", "safetensors", "pluggy")


def with_what_they_need(names: tuple[str, ...]) -> dict[str, metadata.Distribution]:
    """The installed distributions of these names, and those that they require, directly or not."""
    result: dict[str, metadata.Distribution] = {}
    pending = list(names)
    while pending:
        name = canonicalize_name(pending.pop())
        distribution = next(iter(metadata.distributions(name=name)), None)
        if name in result or name in NOT_NEEDED or distribution is None:
            continue
        result[name] = distribution
        requirements = [Requirement(text) for text in distribution.requires or ()]
        pending += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return result


@pytest.fixture
def bare_site(tmp_path: Path) -> Path:
    """A folder of links to the packages that the command needs, and to no other."""
    site = tmp_path / "site"
    site.mkdir()
    for distribution in with_what_they_need(NEEDED).values():
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            target = Path(str(distribution.locate_file(top)))
            if target.exists() and not (site / top).exists():
                (site / top).symlink_to(target)
    assert not (site / "pydantic").exists()
    assert not (site / "lm_eval").exists()
    assert not (site / "datasets").exists()
    return site


@pytest.mark.slow
def test_all_parts_run_in_miniature_with_few_packages(bare_site: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "benchmarks/gpu_check.py", "--parts", "abcde", "--out", str(tmp_path / "out"),
         "--text", "README.md", "--train-seconds", "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(bare_site), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert written["miniature"]
    assert list(written["parts"]) == list("abcde")
    for part in written["parts"].values():
        assert part["error"] is None
        assert part["rows"]
        assert not [row["what"] for row in part["rows"] if row["correct"] is False]
        assert not [row["what"] for row in part["rows"] if row["met"] is not None]  # a CPU's times meet no goal
    compared = sum(row["correct"] is True for row in written["parts"]["a"]["rows"])
    assert compared == (12 if find_spec("triton") else 4)
    assert "IN MINIATURE" in done.stdout


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package of the parts."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_parts.common
    import gpu_parts.kernels
    import gpu_parts.report

    yield gpu_parts
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpu_parts"]:
        del sys.modules[name]


def test_a_selection_that_breaks_ties_the_other_way_is_found(
    parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = parts.common.Context("cpu", parts.common.MINIATURE, None, 1.0)

    def check() -> dict[str, Any]:
        report = parts.report.Report(tmp_path / "report.json", "cpu", miniature=True)
        with report.part("a", "selection"):
            parts.kernels.check_selection(context, report)
        row: dict[str, Any] = report.parts["a"]["rows"][0]
        assert report.failed == (row["verdict"] == "WRONG")
        return row

    assert check()["verdict"] == "correct"
    original = Target.mask
    monkeypatch.setattr(Target, "mask", lambda self, scores, per="matrix": original(self, scores.flip(1), per).flip(1))
    row = check()
    assert row["verdict"] == "WRONG"
    assert "coarse (20, 96) 0.9 per matrix" in row["note"]
    assert "squares (20, 96) 0.9 per matrix" not in row["note"]  # no ties


def test_a_part_that_fails_is_told_and_the_next_one_runs(parts: ModuleType, tmp_path: Path) -> None:
    report = parts.report.Report(tmp_path / "out" / "report.json", "cpu", miniature=True)
    with report.part("a", "one"):
        raise RuntimeError("no kernel image")
    with report.part("b", "two"):
        report.measured("a step", 2.0, "ms", at_most=1.0)
    written = json.loads(report.path.read_text())
    assert "no kernel image" in written["parts"]["a"]["error"]
    assert written["parts"]["b"]["rows"][0]["value"] == 2.0
    assert report.failed
    assert "FAILED: RuntimeError: no kernel image" in report.table()


def test_a_goal_is_judged_on_a_gpu_only_and_missing_it_is_no_failure(parts: ModuleType, tmp_path: Path) -> None:
    report = parts.report.Report(tmp_path / "report.json", "cpu", miniature=False)
    with report.part("b", "goals"):
        report.measured("slow", 2.0, "×", at_most=1.05)
        report.measured("fast", 1.0, "×", at_most=1.05)
    assert [row["verdict"] for row in report.parts["b"]["rows"]] == ["missed", "met"]
    assert not report.failed


@pytest.mark.parametrize("arguments", [["--parts", "xyz"], ["--parts", ""], ["--parts", "e"]])
def test_wrong_arguments_are_told_in_a_line(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu_check.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernels_are_right_on_this_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu_check.py", "--parts", "a", "--out", str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
