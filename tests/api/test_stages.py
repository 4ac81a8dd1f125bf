"""``prune(..., then=...)``: the same as a suite's cell of several stages, and what may stand there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prunebench_plugins.retrain import Retrain
from transformers import AutoModelForCausalLM, AutoTokenizer

import prunebench as pb
from prunebench.models.digest import weights_digest
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay

OPTIONS = {"steps": 4, "lr": 1e-3, "batch_size": 2}


@pytest.fixture
def loaded(world: Path) -> Callable[[], tuple[Any, Any]]:
    folder = str(world / "model")
    return lambda: (AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def test_it_is_a_cell_of_a_suite(
    loaded: Callable[[], tuple[Any, Any]], write_suite: Callable[..., Path], world: Path, tmp_path: Path
) -> None:
    text = "steps: 4, lr: 1.0e-3, batch_size: 2"
    stages = (
        f"[{{name: perp, options: {{{text}, rank: 2}}}}, {{name: retrain, options: {{{text}, loss: distillation}}}}]"
    )
    path = write_suite(methods=f"methods: [{{name: wanda, then: {stages}}}]", sparsities="sparsities: [0.5]")
    (record,) = run_suite(plan(load_suite(path)), tmp_path / "out", SilentDisplay())
    assert record.status == "ok", record.error
    model, tokenizer = loaded()
    pruned = pb.prune(
        model,
        tokenizer,
        "wanda",
        0.5,
        calibration={"corpus": str(world / "calibration.jsonl"), "nsamples": 8, "seqlen": 16},
        then=[{"name": "perp", "options": {**OPTIONS, "rank": 2}}, Retrain(**OPTIONS, loss="distillation")],
    )
    assert weights_digest(model) == record.environment["weights_digest"]
    assert pruned.counts.reached == 0.5
    assert pruned.cost.tokens_seen == record.cost.tokens_seen == 8 * 16 + 2 * 4 * 2 * 16


def test_the_control(loaded: Callable[[], tuple[Any, Any]], world: Path) -> None:
    model, tokenizer = loaded()
    given = {"calibration": str(world / "calibration.jsonl"), "nsamples": 8, "seqlen": 16}
    pruned = pb.prune(model, tokenizer, "dense", then={"name": "retrain", "options": OPTIONS}, **given)
    assert pruned.counts.reached == 0
    assert weights_digest(model) != weights_digest(loaded()[0])
