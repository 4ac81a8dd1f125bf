"""The page on notebooks: its cells run, in order, in one namespace, and what is said of them is so."""

import re
from pathlib import Path

import pytest

import prunebench as pb
from prunebench.report.output.frame import FRAME_COLUMNS
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "notebook.md"
CELLS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_its_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    space: dict[str, object] = {"__name__": "prunebench_notebook"}
    for number, cell in enumerate(CELLS):
        exec(compile(cell, f"notebook.md, cell {number + 1}", "exec"), space)
    dense, scores = space["dense"], space["scores"]
    assert list(dense.perplexity) == list(scores.perplexity) == ["tinyworld/stream-128"]  # type: ignore[attr-defined]
    assert dense.perplexity != scores.perplexity  # type: ignore[attr-defined]
    assert space["pruned"].counts.reached == pytest.approx(0.5, abs=1e-4)  # type: ignore[attr-defined]
    results = space["results"]
    assert [record.status for record in results] == ["ok"] * 5  # type: ignore[attr-defined]
    assert {path.suffix for path in (tmp_path / "results" / "notebook").iterdir()} >= {".json", ".npz"}
    assert space["table"].shape == (3, 3)  # type: ignore[attr-defined]
    assert len(space["axes"].lines) == 3  # type: ignore[attr-defined]
    assert "0 5\n" in capsys.readouterr().out


def test_every_column_of_the_frame_and_every_call_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "{{ frame_columns() }}" in text
    assert {"options", "sparsity", "device", "commit", *pb.Record.model_fields["cost"].annotation.model_fields} <= {
        *FRAME_COLUMNS
    }
    for name in ("prune", "evaluate", "run", "plan", "read_records", "compare"):
        assert re.search(rf"^::: prunebench\.api\.\w+\.{name}$", text, flags=re.MULTILINE)
