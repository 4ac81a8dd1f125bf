"""A cell that is interrupted wherever it keeps something, and goes on, ends as one that was never interrupted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from prunebench.cell import Cell, plan
from prunebench.execution import run_cell
from prunebench.partial import Partial, Stopped
from prunebench.record import Record
from prunebench.suite import load_suite
from prunebench.workshop import Workshop
from tests.test_runner import Silent

Write = Callable[..., Path]
Ended = tuple[Record, dict[str, np.ndarray]]

ELSA = "steps: 7, lr: 1.0e-3, interval: 3, batch_size: 2, grad_accumulation: 2, lmda_schedule: linear"


class Interrupted(Partial):
    """Saves whenever it can, and ends the attempt after so many saves."""

    saves = 1

    def due(self) -> bool:
        return True

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:
        super().keep(name, tensors, facts)
        self.saves -= 1
        if self.saves == 0:
            raise Stopped
        return True


def cell_of(write: Write, method: str, **lines: str) -> Cell:
    return plan(load_suite(write(methods=f"methods: [{method}]", sparsities="sparsities: [0.6]", **lines)))[0]


def attempt(cell: Cell, workshop: Workshop, folder: Path, saves: int) -> Ended | None:
    """None where it was interrupted, after ``saves`` saves."""
    partial = Interrupted.of(folder, cell)
    assert isinstance(partial, Interrupted)
    partial.saves = saves
    try:
        return run_cell(cell, workshop, Silent(), partial=partial)
    except Stopped:
        return None


def same(one: Ended, other: Ended) -> None:
    """All that does not tell of time and memory."""
    for part in ("status", "error", "method", "sparsity", "perplexity", "zero_shot", "measures", "notes", "trace"):
        assert getattr(one[0], part) == getattr(other[0], part), part
    timed = {"prune_seconds", "evaluate_seconds", "allocate_seconds", "peak_bytes"}
    assert one[0].cost.model_dump(exclude=timed) == other[0].cost.model_dump(exclude=timed)
    environments = [{**record.environment, "started": None} for record, _ in (one, other)]
    assert environments[0] == environments[1]
    assert one[1].keys() == other[1].keys()
    assert all(np.array_equal(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.parametrize(
    "method",
    [
        "wanda",
        "sparsegpt",
        "{name: admm, options: {iterations: 3, ramp: 2}}",
        "{name: alps, options: {iterations: 6}}",
        f"{{name: elsa, options: {{{ELSA}, lmda_init: 0.001}}}}",
        f"{{name: elsa, options: {{{ELSA}, layout: two-state}}}}",
        f"{{name: elsa, options: {{{ELSA}, loss: layerwise}}}}",
        f"{{name: elsa-l, options: {{{ELSA}}}}}",
        f"{{name: elsa-l, options: {{{ELSA}, layout: two-state}}}}",
        "{name: wanda, allocation: owl}",
    ],
)
def test_interrupted_at_every_point(write_suite: Write, tmp_path: Path, method: str) -> None:
    cell, workshop = cell_of(write_suite, method), Workshop()
    whole = run_cell(cell, workshop, Silent())
    assert whole[0].status == "ok", whole[0].error
    points = 0
    while True:  # interrupted once, later at each turn
        ended = attempt(cell, workshop, tmp_path / str(points), points + 1)
        if ended is not None:
            break
        points += 1
        again = run_cell(cell, workshop, Silent(), partial=Partial.of(tmp_path / str(points - 1), cell))
        same(whole, again)
    same(whole, ended)
    assert points >= 3
    attempts = 0
    while (ended := attempt(cell, workshop, tmp_path / "often", 2)) is None:  # interrupted again and again
        attempts += 1
        assert attempts < 20
    same(whole, ended)
