"""The command line: what it prints where, and how it exits."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prunebench.records.store import read_record, record_to_json
from prunebench.runner import sweep as runner
from prunebench.runner.events import Display
from prunebench.runner.progress import LiveDisplay, PlainDisplay, SweepDisplay, clock_text, display_for
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.paths import GOLDEN_RECORD
from tests.helpers.records import record

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder with one record."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one.json").write_text(GOLDEN_RECORD.read_text())
    return tmp_path / "results"


class TestHelp:
    def test_help_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; sys.argv = ['prunebench', '--help']\n"
            "from prunebench.cli.app import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'transformers', 'pydantic', 'datasets', 'lm_eval', 'numpy', 'rich'} & set(sys.modules)\n"
            "sys.exit(', '.join(sorted(heavy)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        for command in ("run", "plan", "report", "compare", "methods"):
            assert f"\n  {command} " in done.stdout

    def test_version(self) -> None:
        assert prunebench("--version").stdout.startswith("prunebench 0.")

    @pytest.mark.parametrize("words", [["frobnicate"], ["run"], ["report"], ["report", "x", "--format", "docx"]])
    def test_wrong_usage_exits_2(self, words: list[str]) -> None:
        result = prunebench(*words)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Usage:" in result.stderr


class TestReport:
    @pytest.mark.parametrize(
        ("style", "sign"),
        [("table", "---"), ("markdown", "|:---"), ("latex", r"\toprule"), ("csv", "cell,model,method,sparsity")],
    )
    def test_formats(self, folder: Path, style: str, sign: str) -> None:
        result = prunebench("report", folder, "--format", style)
        assert (result.exit_code, result.stderr) == (0, "")
        assert sign in result.stdout
        assert "wanda" in result.stdout

    def test_parquet_lies_in_the_folder(self, folder: Path) -> None:
        result = prunebench("report", folder, "--format", "parquet")
        assert result.exit_code == 0
        assert Path(result.stdout.strip()).read_bytes()[:4] == b"PAR1"

    def test_a_page_and_plots_lie_in_the_folder_or_where_asked(self, folder: Path, tmp_path: Path) -> None:
        result = prunebench("report", folder, "--format", "html")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.strip() == str(folder / "report.html")
        assert "<title>results · prunebench</title>" in (folder / "report.html").read_text()
        for style, sign in (("pdf", b"%PDF"), ("svg", b"<?xml")):
            result = prunebench("report", folder, "--format", style, "--output", tmp_path / "plots")
            assert result.exit_code == 0
            written = [Path(line) for line in result.stdout.splitlines()]
            assert all(path.read_bytes().startswith(sign) for path in written)
            assert {path.name.partition("--")[0] for path in written} >= {"perplexity", "pareto", "cost", "layers"}

    def test_text_goes_to_a_file_where_asked(self, folder: Path, tmp_path: Path) -> None:
        result = prunebench("report", folder, "--format", "latex", "-o", tmp_path / "deep" / "tables.tex")
        assert result.stdout.strip() == str(tmp_path / "deep" / "tables.tex")
        assert r"\toprule" in (tmp_path / "deep" / "tables.tex").read_text()
        result = prunebench("report", folder, "--format", "html", "-o", folder / "one.json" / "page.html")
        assert result.exit_code == 2
        assert one_line(result).endswith("choose another with --output")

    def test_json(self, folder: Path) -> None:
        rows = json.loads(prunebench("report", folder, "--json").stdout)
        assert {row["method"] for row in rows} == {"wanda"}
        assert rows[0]["value"] == 12.345

    def test_nothing_to_report(self, tmp_path: Path) -> None:
        result = prunebench("report", tmp_path / "nowhere")
        assert result.exit_code == 2
        assert one_line(result).startswith("error: there is no results folder")

    def test_a_torn_record(self, folder: Path) -> None:
        (folder / "two.json").write_text("{torn")
        result = prunebench("report", folder)
        assert result.exit_code == 0
        assert result.stderr.count("\n") == 1
        assert "left out: " in result.stderr
        assert "two.json is no record" in result.stderr
        result = prunebench("compare", folder, folder)  # a gate must not pass on half of the records
        assert result.exit_code == 2
        assert "two.json is no record" in one_line(result)
        (folder / "one.json").unlink()
        result = prunebench("report", folder)
        assert result.exit_code == 2
        assert "holds no whole record: run the suite again" in result.stderr

    def test_names_do_not_steer_the_terminal(self, folder: Path) -> None:
        evil = record(method="[red]x\x1b[31m\x07", model="m\x9b2J")
        (folder / "one.json").write_text(record_to_json(evil))
        for style in ("table", "markdown", "latex", "csv"):
            output = prunebench("report", folder, "--format", style).stdout
            assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in output.replace("\n", ""))
        assert "[red]x[31m" in prunebench("report", folder).stdout


class TestMethods:
    def test_the_list(self) -> None:
        result = prunebench("methods")
        assert (result.exit_code, result.stderr) == (0, "")
        assert {"dense", "magnitude", "wanda", "sparsegpt"} <= {
            line.split()[0] for line in result.stdout.splitlines() if line
        }
        entries = json.loads(prunebench("methods", "--json").stdout)
        assert {"name", "distribution", "version", "summary", "changes", "options", "error"} == set(entries[0])

    def test_one(self) -> None:
        described = json.loads(prunebench("methods", "sparsegpt", "--json").stdout)
        options = {option["name"]: option for option in described["options"]}
        assert options["percdamp"]["type"] == "float"
        assert options["percdamp"]["default"] == 0.01
        assert "Hessian" in options["percdamp"]["docs"]
        assert "percdamp" in prunebench("methods", "sparsegpt").stdout

    def test_an_unknown_one(self) -> None:
        result = prunebench("methods", "sparsgpt")
        assert result.exit_code == 2
        assert one_line(result).startswith("error: unknown method 'sparsgpt': did you mean 'sparsegpt'?")

    def test_one_that_fails_to_import_is_listed_with_its_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from importlib.metadata import EntryPoint

        from prunebench.registry import entry_points as plugins

        broken = EntryPoint("broken", "nowhere.at_all:X", plugins.GROUP)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [broken] if group == plugins.GROUP else [])
        result = prunebench("methods")
        assert result.exit_code == 0
        assert "failed to import" in " ".join(result.stdout.split())


class TestRun:
    def test_from_suite_to_tables(self, write_suite: Write, tmp_path: Path) -> None:
        suite, out = write_suite(), tmp_path / "out"
        first = prunebench("run", suite, "--output", out)
        assert first.exit_code == 0, first.output
        assert "Perplexity of model on test/stream-16; dense " in first.stdout
        assert first.stdout.index("magnitude") < first.stdout.index("wanda")
        assert first.stderr.splitlines()[0] == "5 cells: 5 to run"
        assert "[2/5] model magnitude 0.5 s0: ok, test/stream-16 " in first.stderr
        assert f"prunebench report {out}" in first.stderr
        assert f"report: {out / 'report.html'}" in first.stderr
        assert (out / "report.html").is_file()
        second = prunebench("run", suite, "--output", out)
        assert second.exit_code == 0
        assert second.stderr.splitlines()[0] == "5 cells: 0 to run, 5 already there"
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
    result = prunebench("plan", suite, "-o", out, "--no-forecast")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"5 cells, 1 already in {out}".replace("\n", " ")[:20])
    assert result.stdout.count("to run") == 4
    cells = json.loads(prunebench("plan", suite, "-o", out, "--no-forecast", "--json").stdout)
    assert [cell["record"] for cell in cells] == ["ok", None, None, None, None]
    assert cells[0]["key"][:3] == ["model", "dense", "0"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestDisplay:
    def show(self, display: SweepDisplay) -> None:
        accepted: Display = display  # both displays are what the runner asks for
        with display:
            accepted.start(3, 1)
            for number, ended in ((2, record(method="spa[red]rse\x1b[2Jgpt")), (3, record(error="no [bold]ideas"))):
                accepted.begin(number, ended.cell)  # type: ignore[arg-type]
                accepted.phase("prune")
                accepted.step("block", 2, 8)
                accepted.step("batch", 0, 4)
                accepted.trace(5, {"loss": 2.345678})
                accepted.note("damping raised", {"layer": "q_proj"})
                self.during(display)
                accepted.end(ended, 2.0)

    def during(self, display: SweepDisplay) -> None:
        if isinstance(display, LiveDisplay):
            display._live.refresh()

    def test_lines(self) -> None:
        stream = io.StringIO()
        self.show(PlainDisplay(stream))
        assert stream.getvalue().splitlines() == [
            "3 cells: 2 to run, 1 already there",
            "[2/3] stories spa[red]rse[2Jgpt 0.5 s0 …",
            "[2/3] stories spa[red]rse[2Jgpt 0.5 s0: ok, tinystories_eval/document-256 10.00, prune 2.5 s, measure 30 s",  # noqa: E501
            "[3/3] stories wanda 0.5 s0 …",
            "[3/3] stories wanda 0.5 s0: failed after 2.0 s: ContractError: no [bold]ideas",
        ]

    @pytest.mark.parametrize("width", [120, 40, 10])
    def test_a_terminal(self, width: int) -> None:
        stream = _Terminal()
        display = LiveDisplay(Console(file=stream, force_terminal=True, width=width, color_system=None))
        self.show(display)
        shown = stream.getvalue()
        assert "\x1b[2J" not in shown
        if width == 120:
            assert "[2/3] stories · spa[red]rse[2Jgpt · 0.5 · seed 0" in shown
            assert "prune · block 3/8 · batch 1/4 · loss 2.346" in shown
            assert "2/3 cells" in shown
            assert "left" in shown
            assert "failed after 2.0 s: ContractError: no [bold]ideas" in shown

    def test_a_loop_that_is_over_is_not_shown(self) -> None:
        display = LiveDisplay(Console(file=io.StringIO(), width=80))
        display.begin(1, record().cell)  # type: ignore[arg-type]
        display.phase("prune")
        display.step("block", 0, 2)
        display.step("batch", 0, 1)
        display.step("batch", 1, 1)
        assert list(display._steps.values()) == ["block 1/2"]
        display.step("token", 7, None)
        display.step("block", 1, 2)
        assert list(display._steps.values()) == ["block 2/2"]

    def test_a_terminal_is_recognised(self) -> None:
        assert isinstance(display_for(_Terminal()), LiveDisplay)
        assert isinstance(display_for(io.StringIO()), PlainDisplay)

    def test_clock(self) -> None:
        assert [clock_text(value) for value in (0, 65.4, 3725)] == ["0:00", "1:05", "1:02:05"]
