"""Calibration text on its way to a method: the same in this process and in others, from files and from plugins."""

from collections.abc import Callable
from pathlib import Path

import pytest

from prunebench.errors import CorpusError
from prunebench.records.record import Record
from prunebench.registry.reading import PluginFiles
from prunebench.runner.in_process import InProcess
from prunebench.runner.isolated import Isolated
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay

METHODS = "methods: [wanda, {name: elsa, options: {steps: 4, lr: 1.0e-3, interval: 2, batch_size: 8}}]"
PLUGIN = """
from pathlib import Path


def same_text(split):
    import json
    for line in Path(FILE).read_text().splitlines():
        yield json.loads(line)["text"]
"""


def outcomes(records: list[Record]) -> dict[str, tuple[object, ...]]:
    assert {record.status for record in records} == {"ok"}
    return {
        record.cell.method: (
            record.environment["weights_digest"],
            record.cost.tokens_seen,
            (record.cost.model_extra or {})["passes"],
            dict(record.notes),
        )
        for record in records
    }


def test_wherever_it_is_read(write_suite: Callable[..., Path], world: Path, tmp_path: Path) -> None:
    """A file's corpus here, and a plugin's in a process of its own, give one and the same pruned model."""
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.replace("FILE", repr(str(world / "calibration.jsonl"))))
    found = []
    for corpus, executor in ((world / "calibration.jsonl", InProcess()), ("same-text", Isolated())):
        calibration = f"calibration: {{corpus: {corpus}, nsamples: 8, seqlen: 16, windows: random}}"
        lines = {"calibration": calibration, "methods": METHODS, "sparsities": "sparsities: [0.5]"}
        with executor:
            files = PluginFiles([plugin], executor.reader)
            cells = plan(load_suite(write_suite(**lines), plugin_files=files), plugin_files=files)
            out = tmp_path / Path(corpus).stem
            found.append(outcomes(run_suite(cells, out, SilentDisplay(), executor=executor)))
    assert found[0] == found[1]
    assert found[0]["wanda"][1] == 8 * 16


def test_no_document_is_long_enough(write_suite: Callable[..., Path], world: Path, tmp_path: Path) -> None:
    calibration = f"calibration: {{corpus: {world / 'calibration.jsonl'}, nsamples: 8, seqlen: 41, windows: random}}"
    cells = plan(load_suite(write_suite(calibration=calibration)))
    with pytest.raises(CorpusError, match=r"no document of over 41 tokens.* its longest has 41: lower 'seqlen'"):
        run_suite(cells, tmp_path / "out", SilentDisplay(), executor=InProcess())
    assert not list((tmp_path / "out").glob("*.json"))
