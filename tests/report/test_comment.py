"""The comment on a pull request, and results that become the baseline."""

import json
import re
import shutil
from pathlib import Path

import pytest

from prunebench.records.arrays import ArrayStore
from prunebench.records.store import read_records, write_record
from prunebench.report.compare.comment import MOST_ROWS, comparison_to_comment
from prunebench.report.compare.compare import compare_records
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.records import PROTOCOL, kept, record

Sides = tuple[Path, Path]


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
    return tmp_path / "base", tmp_path / "head"


def comment(sides: Sides) -> list[str]:
    stores = ArrayStore(sides[0]), ArrayStore(sides[1])
    mark, *lines = comparison_to_comment(compare_records(*map(read_records, sides), *stores), "main").splitlines()
    assert mark == "<!-- prunebench compare: main -->"
    return lines


class TestComment:
    def test_nothing_changed(self, sides: Sides) -> None:
        for side in sides:
            kept(side)
            kept(side, "magnitude")
        lines = comment(sides)
        assert lines[0] == "### ✅ No regression in 2 cells"
        assert not any(line.startswith("|") for line in lines)

    def test_the_first_line_says_the_worst(self, sides: Sides) -> None:
        for side, worse in zip(sides, (0.0, 0.05), strict=True):
            kept(side, worse=worse / 2)
            kept(side, "magnitude", worse=worse)
            kept(side, "sparsegpt")
        lines = comment(sides)
        assert lines[0].startswith("### ❌ Regression: perplexity +5.0 %, magnitude 0.5, ")
        assert lines[0].endswith(", and 1 more")
        rows = [line for line in lines if line.startswith("| **")]
        assert [row.split()[1].strip("*") for row in rows] == ["magnitude", "wanda"]  # the worst first
        assert not any("sparsegpt" in line for line in lines)  # only what changed

    def test_a_cell_that_fails_goes_first(self, sides: Sides) -> None:
        kept(sides[0])
        write_record(sides[1], record(error="holds 0 zeros | <b>"), {})
        lines = comment(sides)
        assert lines[0].startswith("### ❌ Regression: wanda 0.5, ")
        assert lines[0].endswith(" fails")
        (row,) = [line for line in lines if line.startswith("| **")]
        assert r"ContractError: holds 0 zeros \| &lt;b>" in row

    def test_an_improvement_is_no_regression(self, sides: Sides) -> None:
        for side, worse in zip(sides, (0.05, 0.0), strict=True):
            kept(side, worse=worse)
        assert comment(sides)[0] == "### ✅ No regression in 1 cell, 1 improvement"

    def test_what_cannot_be_compared_is_no_success(self, sides: Sides) -> None:
        kept(sides[0], model_digest="a" * 64)
        kept(sides[1], model_digest="b" * 64)
        lines = comment(sides)
        assert lines[0] == "### ⚠️ No regression found, but 1 cell cannot be compared"
        assert any("the dense model has other weights" in line for line in lines)
        shutil.rmtree(sides[1])
        sides[1].mkdir()
        kept(sides[1], "other")
        assert comment(sides)[0] == "### ⚠️ Nothing was compared"

    def test_it_stays_short(self, sides: Sides) -> None:
        for number in range(MOST_ROWS + 5):
            kept(sides[0], f"m{number}")
            kept(sides[1], f"m{number}", worse=0.1)
        lines = comment(sides)
        assert sum(line.startswith("| **") for line in lines) == MOST_ROWS
        assert "… and 5 more" in lines

    def test_the_command_writes_it(self, sides: Sides) -> None:
        for side, worse in zip(sides, (0.0, 0.05), strict=True):
            kept(side, worse=worse)
        result = prunebench("compare", *sides, "--format", "comment")
        mark, verdict = result.stdout.splitlines()[:2]
        assert (result.exit_code, verdict[:16]) == (1, "### ❌ Regression")
        assert mark == f"<!-- prunebench compare: {re.sub('[^A-Za-z0-9._/ ]', '_', str(sides[0]))} -->"


class TestAccept:
    def test_a_first_baseline_and_then_the_gate_is_green(self, sides: Sides, tmp_path: Path) -> None:
        kept(sides[0])
        kept(sides[0], "magnitude")
        result = prunebench("baseline", "accept", sides[0], tmp_path / "new" / "baseline")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.strip().endswith(f"is a new baseline: 2 cells of {sides[0]}")
        assert prunebench("compare", tmp_path / "new" / "baseline", sides[0]).exit_code == 0

    def test_it_says_what_changed_and_leaves_nothing_of_the_old(self, sides: Sides) -> None:
        baseline, results = sides
        kept(baseline)
        kept(baseline, "gone")
        (baseline / "README.md").write_text("kept")
        kept(results, worse=0.05, started="2026-02-02T00:00:00+00:00")
        kept(results, "new")
        assert prunebench("compare", baseline, results).exit_code == 1
        result = prunebench("baseline", "accept", results, baseline)
        assert result.exit_code == 0
        assert "Regressions" in result.stdout
        assert result.stderr.strip().endswith("now, 1 measure is worse, 1 cell is new, 1 cell is gone")
        assert sorted(path.name for path in baseline.iterdir()) == sorted(
            ["README.md", *(path.name for path in results.iterdir())]
        )
        assert prunebench("compare", baseline, results).exit_code == 0

    def test_as_json(self, sides: Sides) -> None:
        for side in sides:
            kept(side)
        answer = json.loads(prunebench("baseline", "accept", *reversed(sides), "--json").stdout)
        assert answer["cells"] == 1
        assert answer["changes"]["cells"][0]["refused"] == []

    def test_a_failed_cell_is_refused(self, sides: Sides) -> None:
        kept(sides[1])
        write_record(sides[1], record("magnitude", error="x"), {})
        result = prunebench("baseline", "accept", sides[1], sides[0])
        assert result.exit_code == 2
        assert "1 cell of" in one_line(result)
        assert not list(sides[0].iterdir())

    @pytest.mark.parametrize("change", ["protocol", "text", "model"])
    def test_other_protocols_are_refused(self, sides: Sides, change: str) -> None:
        kept(sides[0])
        made = kept(sides[1], model_digest="b" * 64) if change == "model" else kept(sides[1])
        arrays = dict(ArrayStore(sides[1]).read(made))
        if change == "protocol":
            facts = made.perplexity | {"other/stream-128": made.perplexity[PROTOCOL]}
            facts.pop(PROTOCOL)
            write_record(sides[1], made.model_copy(update={"perplexity": facts, "arrays": {}}), arrays)
        if change == "text":
            evaluations = tuple(part | {"digest": "c" * 64} for part in made.cell.evaluations)
            cell = made.cell.model_copy(update={"evaluations": evaluations})
            write_record(sides[1], made.model_copy(update={"cell": cell}), arrays)
        before = {path.name: path.read_bytes() for path in sides[0].iterdir()}
        result = prunebench("baseline", "accept", sides[1], sides[0])
        assert result.exit_code == 2
        assert "is no measurement of the same" in one_line(result)
        assert {path.name: path.read_bytes() for path in sides[0].iterdir()} == before

    def test_wrong_folders(self, sides: Sides, tmp_path: Path) -> None:
        kept(sides[1])
        assert "same folder" in one_line(prunebench("baseline", "accept", sides[1], sides[1]))
        assert "holds no records" in one_line(prunebench("baseline", "accept", sides[0], tmp_path / "x"))
        (tmp_path / "link").symlink_to(sides[0])
        assert "is a symbolic link" in one_line(prunebench("baseline", "accept", sides[1], tmp_path / "link"))
        kept(sides[0], "other")
        assert "no cell in common" in one_line(prunebench("baseline", "accept", sides[1], sides[0]))
