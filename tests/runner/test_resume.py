"""A cell that is interrupted wherever it keeps something, and goes on, ends as one that was never interrupted."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prunebench.pruning.callbacks import use_observer
from prunebench.records.record import Record
from prunebench.registry.entry_points import load_method
from prunebench.runner.environment import environment
from prunebench.runner.events import EventRecorder
from prunebench.runner.in_process import run_cell
from prunebench.runner.resources import Resources
from prunebench.runner.saved_state import SavedState, Stopped
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.testing.checking import differences, run_trial
from prunebench.testing.trial import InterruptingCheckpointer, Interruption, Trial
from tests.helpers.observers import SilentDisplay

Write = Callable[..., Path]
Ended = tuple[Record, dict[str, np.ndarray]]

ELSA = "steps: 5, lr: 1.0e-3, interval: 2, batch_size: 1, grad_accumulation: 2, lmda_schedule: linear"

TRAINING = "steps: 5, lr: 1.0e-3, batch_size: 1"


class Interrupted(SavedState):
    """Saves whenever it can, and ends the attempt when something new is saved."""

    def due(self) -> bool:
        return True

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:
        found = self.kept(name)
        if "carried" in facts and found and found[1]["facts"] == json.loads(json.dumps(facts["facts"])):
            return True  # where the last attempt ended
        super().keep(name, tensors, facts)
        raise Stopped

    def adopt(self, name: str, file: Path, facts: dict[str, Any]) -> Path:
        super().adopt(name, file, facts)
        raise Stopped


def cell_of(write: Write, method: str, **lines: str) -> Cell:
    return plan(load_suite(write(methods=f"methods: [{method}]", sparsities="sparsities: [0.6]", **lines)))[0]


def attempt(cell: Cell, resources: Resources, folder: Path) -> Ended | None:
    """Goes on from the last attempt; None where it was interrupted itself."""
    try:
        return run_cell(cell, resources, SilentDisplay(), saved_state=Interrupted.of(folder, cell, interval=0))
    except Stopped:
        return None


def interrupted_at_every_point(cell: Cell, resources: Resources, folder: Path) -> tuple[Ended, int]:
    """Each attempt goes on from where the one before it ended, to the next point where something is kept."""
    for points in range(40):
        if (ended := attempt(cell, resources, folder)) is not None:
            return ended, points
    pytest.fail("no attempt came any further")


def same(one: Ended, other: Ended) -> None:
    """All that does not tell of time and memory."""
    for part in ("status", "error", "method", "sparsity", "perplexity", "zero_shot", "measures", "notes", "trace"):
        assert getattr(one[0], part) == getattr(other[0], part), part
    timed = {"prune_seconds", "evaluate_seconds", "allocate_seconds", "peak_bytes"}
    assert one[0].cost.model_dump(exclude=timed) == other[0].cost.model_dump(exclude=timed)
    efforts = [[stage.model_dump(exclude={"seconds"}) for stage in record.effort] for record, _ in (one, other)]
    assert efforts[0] == efforts[1]
    environments = [{**record.environment, "started": None} for record, _ in (one, other)]
    assert environments[0] == environments[1]
    assert one[1].keys() == other[1].keys()
    assert all(np.array_equal(one[1][name], other[1][name]) for name in one[1])


BLOCKS, STEPS, PRUNED = 3, 5, 1  # where something is kept


@pytest.mark.parametrize(
    ("method", "points"),
    [
        ("wanda", BLOCKS),
        ("sparsegpt", BLOCKS),
        ("{name: admm, options: {iterations: 3, ramp: 2}}", BLOCKS),
        ("{name: alps, options: {iterations: 6}}", BLOCKS),
        (f"{{name: elsa, options: {{{ELSA}, lmda_init: 0.001}}}}", STEPS),
        (f"{{name: elsa, options: {{{ELSA}, layout: two-state}}}}", STEPS),
        (f"{{name: elsa, options: {{{ELSA}, loss: layerwise}}}}", BLOCKS),
        (f"{{name: elsa-l, options: {{{ELSA}}}}}", STEPS),
        (f"{{name: elsa-l, options: {{{ELSA}, layout: two-state}}}}", STEPS),
        ("{name: wanda, allocation: owl}", BLOCKS),
        ("magnitude", 0),
        (f"{{name: gmp, options: {{{TRAINING}, interval: 1}}}}", STEPS),
        (f"{{name: wanda, then: {{name: retrain, options: {{{TRAINING}}}}}}}", BLOCKS + PRUNED + STEPS),
        (f"{{name: wanda, allocation: owl, then: {{name: perp, options: {{{TRAINING}}}}}}}", BLOCKS + PRUNED + STEPS),
    ],
)
def test_methods(write_suite: Write, tmp_path: Path, method: str, points: int) -> None:
    cell, resources = cell_of(write_suite, method), Resources()
    whole = run_cell(cell, resources, SilentDisplay())
    assert whole[0].status == "ok", whole[0].error
    ended, found = interrupted_at_every_point(cell, resources, tmp_path)
    same(whole, ended)
    assert found == points + PRUNED


@pytest.mark.parametrize("windows", ["stream", "document", "random"])
def test_batches_of_a_text_that_memory_does_not_hold(
    write_suite: Write, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: str
) -> None:
    """Each attempt reads the text anew, as a new process does, and is somewhere else in it."""
    monkeypatch.setattr("prunebench.data.tokens.POOL_TOKENS", 50)
    calibration = f"{{corpus: {world / 'calibration.jsonl'}, nsamples: 2, seqlen: 16, windows: {windows}}}"
    cell = cell_of(write_suite, f"{{name: elsa, options: {{{ELSA}}}}}", calibration=f"calibration: {calibration}")
    whole = run_cell(cell, Resources(), SilentDisplay())
    for _ in range(40):
        if (ended := attempt(cell, Resources(), tmp_path)) is not None:
            break
    assert ended is not None
    same(whole, ended)
    assert whole[0].cost.tokens_seen == 5 * 2 * 16
    passes = (whole[0].cost.model_extra or {})["passes"]
    assert 0 < passes <= 1
    assert not any("passed over" in note for note in whole[0].notes)


def test_evaluations(write_suite: Write, world: Path, tmp_path: Path) -> None:
    """Four evaluations, one of two tasks; a baseline whose weights need not be kept."""
    perplexities = [f"{{name: perplexity, corpus: {world / 'test.jsonl'}, seqlen: {seqlen}}}" for seqlen in (16, 12)]
    tasks = "{name: zero_shot, tasks: [tinyworld_recall, tinyworld_agreement], limit: 3}"
    other = "{name: zero_shot, tasks: [tinyworld_knowledge], limit: 3}"
    cell = cell_of(write_suite, "dense", evaluations=f"evaluations: [{', '.join([tasks, *perplexities, other])}]")
    resources = Resources()
    whole = run_cell(cell, resources, SilentDisplay())
    ended, points = interrupted_at_every_point(cell, resources, tmp_path)
    same(whole, ended)
    assert whole[0].status == "ok"
    assert points == PRUNED + 3 + 2 + 1  # two tasks and their evaluation; two texts; a task: then it is done


def test_experts_are_counted_over_all_attempts() -> None:
    method, trial, ears = (
        load_method("wanda"),
        Trial("mixtral", "0.5"),
        [EventRecorder(SilentDisplay()) for _ in range(2)],
    )
    memory = InterruptingCheckpointer(saves=2)
    with use_observer(ears[0]):
        whole = run_trial(method, {}, trial)
    with pytest.raises(Interruption):
        run_trial(method, {}, trial, memory)
    with use_observer(ears[1]):
        assert not differences(whole.after, run_trial(method, {}, trial, memory).after)
    assert ears[0].amounts == ears[1].amounts
    assert len(ears[0].amounts["expert_tokens"]) == BLOCKS


class TestPartial:
    def kept(self, folder: Path, belongs: str = "cell") -> bool:
        found = SavedState(folder, belongs).kept("some/name")
        if found is not None:
            assert torch.equal(found[0]["x"], torch.arange(5.0))
            assert found[1] == {"value": 0.1}
        return found is not None

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        saved_state = SavedState(tmp_path, "cell")
        saved_state.keep("some/name", {"x": torch.zeros(9)}, {"value": 0.2})
        assert saved_state.keep("some/name", {"x": torch.arange(5.0)}, {"value": 0.1})
        return tmp_path

    def test_the_last_state_alone_is_there(self, folder: Path) -> None:
        assert self.kept(folder)
        assert len(list(folder.iterdir())) == 2

    @pytest.mark.parametrize("kind", ["json", "safetensors"])
    @pytest.mark.parametrize("harm", ["torn", "altered", "lost"])
    def test_a_state_that_is_not_whole_is_removed(self, folder: Path, kind: str, harm: str) -> None:
        (path,) = folder.glob(f"*.{kind}")
        content = path.read_bytes()
        if harm == "lost":
            path.unlink()
        elif harm == "torn":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.write_bytes(content.replace(b"0.1", b"0.3") if kind == "json" else content[:-1] + b"\x01")
        assert not self.kept(folder)
        assert not list(folder.iterdir())

    def test_another_cell_version_or_machine(self, folder: Path) -> None:
        assert not self.kept(folder, "other")
        assert not list(folder.iterdir())

    def test_what_a_state_belongs_to(self, write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cell = cell_of(write_suite, "wanda")
        SavedState.of(tmp_path, cell).keep("x", {}, {})
        assert SavedState.of(tmp_path, cell).kept("x") == ({}, {})
        elsewhere = cell.model_copy(update={"suite": cell.suite.model_copy(update={"description": "another"})})
        assert SavedState.of(tmp_path, elsewhere).kept("x") == ({}, {})
        there = environment(cell)
        monkeypatch.setattr(
            "prunebench.runner.saved_state.environment", lambda *_: {**there, "threads": there["threads"] + 1}
        )
        assert SavedState.of(tmp_path, cell).kept("x") is None

    def test_names_that_begin_alike(self, tmp_path: Path) -> None:
        saved_state, names = SavedState(tmp_path), ("a", "a/b", "a.b", "ab")
        for name in names:
            saved_state.keep(name, {"x": torch.ones(1)}, {"is": name})
        saved_state.keep("a", {}, {"is": "a"})
        assert [found[1]["is"] for name in names if (found := saved_state.kept(name))] == list(names)
        saved_state.forget("a")
        assert [name for name in names if saved_state.kept(name)] == ["a.b", "ab"]

    def test_a_stop_ends_the_cell_when_all_is_kept(self, tmp_path: Path) -> None:
        saved_state = SavedState(tmp_path)
        assert not saved_state.due()
        saved_state.stop.set()
        assert saved_state.due()
        with pytest.raises(Stopped):
            saved_state.keep("x", {}, {})
        assert SavedState(tmp_path).kept("x") == ({}, {})

    def test_a_folder_that_cannot_be_written_costs_the_state_only(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert not SavedState(tmp_path / "file" / "partial").keep("x", {}, {})

    def test_nowhere(self) -> None:
        saved_state = SavedState()
        saved_state.stop.set()
        assert not saved_state.due()
        assert not saved_state.keep("x", {}, {})
        assert saved_state.kept("x") is None


class TestSweep:
    def test_it_goes_on_and_clears_up(self, write_suite: Write, tmp_path: Path) -> None:
        cell = cell_of(write_suite, "wanda")
        attempt(cell, Resources(), tmp_path)
        (kept,) = (tmp_path / ".partial").iterdir()
        display = SilentDisplay()
        old, new = (kept.with_name(name) for name in ("old", "new"))
        old.mkdir()
        new.mkdir()
        os.utime(old, (0, 0))
        os.utime(kept, (0, 0))
        (record,) = run_suite([cell], tmp_path, display)
        assert record.status == "ok"
        assert ("block", 1, BLOCKS) in display.steps
        assert ("block", 0, BLOCKS) not in display.steps
        assert [path.name for path in (tmp_path / ".partial").iterdir()] == ["new"]
        new.rmdir()
        SavedState.of(tmp_path, cell).remove()
        assert not (tmp_path / ".partial").exists()

    def test_fresh_begins_anew(self, write_suite: Write, tmp_path: Path) -> None:
        cell, display = cell_of(write_suite, "wanda"), SilentDisplay()
        attempt(cell, Resources(), tmp_path)
        run_suite([cell], tmp_path, display, fresh=True)
        assert ("block", 0, BLOCKS) in display.steps

    def test_an_altered_block_is_pruned_again(self, write_suite: Write, tmp_path: Path) -> None:
        cell, resources = cell_of(write_suite, "wanda"), Resources()
        whole = run_cell(cell, resources, SilentDisplay())
        for _ in range(2):
            attempt(cell, resources, tmp_path)
        first, second = sorted((tmp_path / ".partial").rglob("*.safetensors"))
        second.write_bytes(second.read_bytes()[:-4] + b"none")
        same(whole, run_cell(cell, resources, SilentDisplay(), saved_state=SavedState.of(tmp_path, cell)))
        assert first.exists()
        assert not second.exists()
