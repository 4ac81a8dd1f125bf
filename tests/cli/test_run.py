"""``prunebench run`` and ``plan``: what they print where, and how they exit."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunebench.records.store import read_record
from prunebench.runner import sweep as runner
from tests.helpers.command_line import one_line, prunebench

Write = Callable[..., Path]


class TestRun:
    def test_from_suite_to_tables(self, write_suite: Write, tmp_path: Path) -> None:
        suite, out = write_suite(), tmp_path / "out"
        first = prunebench("run", suite, "--output", out)
        assert first.exit_code == 0, first.output
        assert "Perplexity of model on test/stream-16; dense " in first.stdout
        assert first.stdout.index("magnitude") < first.stdout.index("wanda")
        assert first.stderr.splitlines()[:2] == [
            "suite tiny: 1 model × 3 methods × 2 sparsities × 1 seed",
            "5 cells: 5 to run",
        ]
        assert "[2/5] model magnitude 0.5 s0: ok, test/stream-16 " in first.stderr
        assert f"prunebench report {out}" in first.stderr
        assert f"report: {out / 'report.html'}" in first.stderr
        assert (out / "report.html").is_file()
        second = prunebench("run", suite, "--output", out)
        assert second.exit_code == 0
        assert second.stderr.splitlines()[1] == "5 cells: 0 to run, 5 already there"
        assert second.stdout == first.stdout
        assert prunebench("report", out).stdout == first.stdout

    def test_flags(self, write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        words = ("run", write_suite(), "--only", "wanda", "--set", "sparsities=[0.25]", "--device", "cpu", "--json")
        result = prunebench(*words)
        answer = json.loads(result.stdout)
        assert answer["output"] == str(Path("results") / "tiny")
        assert (answer["ok"], answer["failed"]) == (1, 0)
        (entry,) = answer["cells"]
        assert read_record(Path("results") / "tiny" / f"{entry['id']}.json").cell.sparsity == "0.25"
        assert "0 to run" in prunebench(*words).stderr
        assert "1 to run" in prunebench(*words, "--fresh").stderr

    def test_a_failed_cell_exits_1_and_the_others_are_kept(self, write_suite: Write, tmp_path: Path) -> None:
        suite = write_suite(methods="methods: [magnitude]", sparsities="sparsities: [0.5, 3:7]")
        result = prunebench("run", suite, "-o", tmp_path / "out")
        assert result.exit_code == 1
        assert "failed" in result.stdout
        assert "pattern 3:7 does not fit 32 inputs" in " ".join(result.stdout.split())
        assert "1 of 2 cells failed" in result.stderr

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--only", "wand"], "the suite has no such method: did you mean 'wanda'?"),
            (["--set", "sparsities=[1.2]"], "sparsity 1.2 is outside [0, 1)"),
            (["--set", "nonsense"], "is no key=value"),
            (["--device", "tpu"], "unknown device 'tpu'"),
        ],
    )
    def test_a_wrong_request_runs_nothing(
        self, write_suite: Write, tmp_path: Path, words: list[str], message: str
    ) -> None:
        result = prunebench("run", write_suite(), "-o", tmp_path / "out", *words)
        assert result.exit_code == 2
        assert message in one_line(result)
        assert not (tmp_path / "out").exists()

    def test_no_suite(self, tmp_path: Path) -> None:
        result = prunebench("run", tmp_path / "none.yaml")
        assert result.exit_code == 2
        assert "cannot read the suite" in one_line(result)

    def test_an_output_that_cannot_be_written(self, write_suite: Write, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = prunebench("run", write_suite(), "-o", tmp_path / "file" / "out")
        assert result.exit_code == 2
        assert "cannot write to the output folder" in one_line(result)

    def test_ctrl_c_is_one_line(self, write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(runner, "run_suite", interrupted)
        result = prunebench("run", write_suite(), "-o", tmp_path / "out")
        assert result.exit_code == 130
        assert one_line(result).startswith("interrupted: the records so far are in")

    def test_what_a_method_prints_is_no_result(
        self, write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def talkative(*words: Any, **named: Any) -> Any:
            sys.stdout.write("chatter\n")
            return run_suite(*words, **named)

        run_suite = runner.run_suite
        monkeypatch.setattr(runner, "run_suite", talkative)
        result = prunebench("run", write_suite(), "-o", tmp_path / "out", "--only", "dense", "--json")
        json.loads(result.stdout)
        assert "chatter" in result.stderr


def test_plan(write_suite: Write, tmp_path: Path) -> None:
    suite, out = write_suite(), tmp_path / "out"
    prunebench("run", suite, "-o", out, "--only", "dense")
    result = prunebench("plan", suite, "-o", out)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"5 cells, 1 already in {out}".replace("\n", " ")[:20])
    assert result.stdout.count("to run") == 4
    cells = json.loads(prunebench("plan", suite, "-o", out, "--json").stdout)
    assert [cell["record"] for cell in cells] == ["ok", None, None, None, None]
    assert cells[0]["key"][:3] == ["model", "dense", "0"]
