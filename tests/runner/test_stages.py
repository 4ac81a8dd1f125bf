"""Cells of several stages: the weights, the masks, the records, and what becomes of one that dies in its second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunebench.records.record import Record
from prunebench.report.sections import all_tables
from prunebench.runner.isolated import Isolated
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import BROKEN_METHODS

Write = Callable[..., Path]
QUICK = "steps: 4, lr: 1.0e-3, batch_size: 2"


def run(write: Write, output: Path, methods: str, sparsities: str = "[0.5]", **options: Any) -> list[Record]:
    files = options.pop("plugin_files", ())
    cells = plan(
        load_suite(write(methods=f"methods: [{methods}]", sparsities=f"sparsities: {sparsities}")), plugin_files=files
    )
    return run_suite(cells, output, SilentDisplay(), **options)


def digest(record: Record) -> str:
    assert record.status == "ok", record.error
    return str(record.environment["weights_digest"])


def test_no_step_is_the_first_stage_alone(write_suite: Write, tmp_path: Path) -> None:
    nothing = "then: [{name: retrain, options: {steps: 0}}]"
    alone, both, dense, control = run(
        write_suite, tmp_path, f"wanda, {{name: wanda, {nothing}}}, dense, {{name: dense, {nothing}}}"
    )
    assert digest(alone) == digest(both)
    assert digest(dense) == digest(control)
    assert alone.perplexity == both.perplexity
    assert both.cell.key[1] == "wanda+retrain"
    assert [stage.method for stage in both.cell.stages] == ["wanda", "retrain"]


def test_stages_in_one_cell_are_what_they_are_by_hand(write_suite: Write, tmp_path: Path) -> None:
    """Tokens, seconds and operations of each; zeros counted; a table of its label."""
    one, other, control = run(
        write_suite,
        tmp_path,
        f"{{name: wanda, then: [{{name: retrain, options: {{{QUICK}}}}}]}}, "
        f"{{name: wanda, allocation: owl, label: owl, then: [{{name: perp, options: {{{QUICK}, rank: 2}}}}]}}, "
        f"{{name: dense, then: {{name: retrain, options: {{{QUICK}}}}}, label: control}}",
    )
    for record in (one, other):
        assert record.sparsity is not None
        assert record.sparsity.reached == 0.5
        assert [effort.stage for effort in record.effort] == [0, 1]
        assert record.effort[0].backward_tokens == 0
        assert record.effort[1].forward_tokens == record.effort[1].backward_tokens == 4 * 2 * 16
        seconds = sum(effort.seconds or 0 for effort in record.effort)
        assert record.cost.prune_seconds == pytest.approx(seconds)
        assert record.cost.tokens_seen == 8 * 16 + 4 * 2 * 16
        assert record.method is not None
        assert record.method.changes == "all"
        assert record.method.training == "end-to-end"
        assert record.trace[-1]["step"] == 3
    assert len({matrix.zeros / matrix.numel for matrix in other.sparsity.matrices.values()}) > 1  # type: ignore[union-attr]
    assert control.sparsity is not None
    assert control.sparsity.reached == control.sparsity.requested == 0
    assert control.cell.sparsity == "0"
    words = " ".join(str(cell) for table in all_tables([one, other, control]) for row in table.rows for cell in row)
    assert "wanda+retrain" in words


BREAKERS = '''
from dataclasses import dataclass
from typing import Any, ClassVar
from prunebench import hookimpl
from prunebench.pruning import prunable

@dataclass(frozen=True)
class Refines:
    """Moves masks by one row, and keeps their count."""

    mask: ClassVar = "moves"

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, _ in prunable(model, sparsity):
            layer.weight.copy_(layer.weight.roll(1, dims=0))

@dataclass(frozen=True)
class Grows:
    """Prunes more than it found."""

    mask: ClassVar = "moves"

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, _ in prunable(model, sparsity):
            layer.weight[0] = 0
'''


def test_masks_are_compared_and_counted_across_a_stage(write_suite: Write, tmp_path: Path) -> None:
    file = tmp_path / "breakers.py"
    file.write_text(BREAKERS)
    retrain = f"{{name: retrain, options: {{{QUICK}}}}}"
    rows = ["[refines]", "[grows]", "[moves-masks]", f"[moves-masks, {retrain}]", f"[refines, {retrain}]"]
    methods = ", ".join(f"{{name: magnitude, then: {row}, label: m{number}}}" for number, row in enumerate(rows))
    records = run(write_suite, tmp_path / "out", methods, plugin_files=[file, BROKEN_METHODS])
    assert [record.status for record in records] == ["ok", "failed", "failed", "failed", "ok"]
    messages = [record.error.message if record.error else "" for record in records]
    assert "layers.0.self_attn.q_proj holds" in messages[1]
    for message in messages[2:4]:  # by measuring, and by the next stage before its method is imported
        assert "the mask of model.layers.0.self_attn.q_proj was changed, and the method says mask = 'held'" in message


DIES = '''
import os, signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from prunebench import hookimpl
from prunebench.pruning import fit, language_loss, masks, prunable

@dataclass(frozen=True)
class Dies:
    """Retrains, and is killed on its way if there is no file to say that it was.

    Args:
        marker: the file.
    """

    changes: ClassVar[str] = "all"
    mask: ClassVar = "held"
    after: ClassVar[bool] = True
    marker: str = ""

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        held = masks(layer.parameter for layer, _ in prunable(model, sparsity))

        def killed(step: int) -> None:
            if step == 3 and not Path(self.marker).exists():
                Path(self.marker).touch()
                os.kill(os.getpid(), signal.SIGKILL)

        fit(lambda step: language_loss(model, next(data.batches(2, step))), model.parameters(), steps=6, lr=1e-3,
            model=model, held=held, after=killed)
'''


@pytest.mark.slow
def test_each_stage_has_a_process_and_one_killed_in_its_second_ends_the_same(
    write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PRUNEBENCH_IN_PROCESS")
    file = tmp_path / "dies.py"
    file.write_text(DIES)
    outcomes = []
    for name in ("whole", "killed"):
        marker = tmp_path / "marker"
        if name == "whole":
            marker.touch()
        else:
            marker.unlink()
        stage = f"{{name: dies, options: {{marker: '{marker}'}}}}"
        output = tmp_path / name
        attempts = []
        for _ in range(2 if name == "killed" else 1):
            with Isolated(every=0) as executor:
                lines = {"methods": f"methods: [{{name: wanda, then: [{stage}]}}]", "sparsities": "sparsities: [0.5]"}
                cells = plan(load_suite(write_suite(**lines)), plugin_files=[file])
                attempts += run_suite(cells, output, SilentDisplay(), executor=executor)
        outcomes.append(attempts)
    (whole,), (dead, again) = outcomes
    assert dead.status == "failed"
    assert dead.error is not None
    assert dead.error.type == "WorkerKilled"
    assert digest(again) == digest(whole)
    assert again.perplexity == whole.perplexity
    assert again.cost.tokens_seen == whole.cost.tokens_seen
    assert [effort.backward_tokens for effort in again.effort] == [0, 6 * 2 * 16]
