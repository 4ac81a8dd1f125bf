"""``prunebench report``: what it prints where, and how it exits."""

import json
from pathlib import Path

import pytest

from prunebench.records.store import record_to_json
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.paths import GOLDEN_RECORD
from tests.helpers.records import record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder with one record."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one.json").write_text(GOLDEN_RECORD.read_text())
    return tmp_path / "results"


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
