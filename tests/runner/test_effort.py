"""Effort is what goes through the model, whatever loop drives it: token counts are derived by hand."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from prunebench.pruning import FeatureNorm, Unstructured, calibrated
from prunebench.records.record import Record
from prunebench.runner.effort import MARK, Counts, EffortMeter
from prunebench.runner.in_process import run_cell
from prunebench.runner.resources import Resources
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers import tiny
from tests.helpers.observers import SilentDisplay
from tests.helpers.paths import TESTS
from tests.helpers.training_methods import BlockLoop, OwnLoop

PLUGINS = TESTS / "helpers" / "training_methods.py"
IDS = torch.arange(32).view(2, 16)  # 32 tokens
BLOCKS = tiny.COMMON["num_hidden_layers"]

# A block of the tiny LLaMA: q and o (32, 32), k and v (16, 32), gate, up and down (48, 32), two norms; then the last
# norm, and the head.
LLAMA_BLOCK = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32
LLAMA = BLOCKS * LLAMA_BLOCK + 32 + tiny.VOCAB * 32


def counted(model: Any, work: Callable[[], object]) -> Counts:
    with EffortMeter(model) as meter:
        work()
    return meter.counts()


def step(model: Any, ids: torch.Tensor = IDS) -> None:
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()


def test_a_loop_of_its_own() -> None:
    """Three steps of two windows of 24 tokens, each forward and backward through the whole model."""
    model, data = tiny.llama(), tiny.calibration(seqlen=24)
    found = counted(model, lambda: OwnLoop(steps=3, batch_size=2).prune(model, data, Unstructured(0.5)))
    tokens = 3 * 2 * 24
    assert found == Counts(
        forward_tokens=tokens, backward_tokens=tokens, flops=6 * LLAMA * tokens, training="end-to-end"
    )


def test_a_loop_over_blocks() -> None:
    """Of each block: the dense pass, two epochs with gradients, and the pass that gives the next block its inputs."""
    model, data = tiny.llama(), tiny.calibration(nsamples=12, seqlen=24)
    found = counted(model, lambda: BlockLoop(epochs=2).prune(model, data, Unstructured(0.5)))
    tokens = 12 * 24
    assert found.forward_tokens == (1 + 2 + 1) * tokens  # the same in every block: their mean
    assert found.backward_tokens == 2 * tokens
    # The last norm and the head never ran, and no gradient of a matrix goes back through a block's first norm.
    assert found.flops == BLOCKS * (2 * 4 * LLAMA_BLOCK + 4 * 2 * (LLAMA_BLOCK - 32)) * tokens
    assert found.training == "block"


def test_a_mixture_of_experts() -> None:
    """Tokens count once; of the four experts each token meets two."""
    model = tiny.mixtral()
    config = model.config
    assert (config.num_local_experts, config.num_experts_per_tok) == (4, 2)
    expert = 3 * 48 * 32
    block = 2 * 32 * 32 + 2 * 16 * 32 + 2 * 32 + 4 * 32 + 2 * expert  # attention, norms, router, two experts
    passed = BLOCKS * block + 32 + tiny.VOCAB * 32
    found = counted(model, lambda: [step(model) for _ in range(2)])
    assert found == Counts(forward_tokens=64, backward_tokens=64, flops=6 * passed * 64, training="end-to-end")


def test_the_walk_of_the_toolkit() -> None:
    """One call of block 0, to see what it returns; every block for the statistics; all but the last for the next."""
    model, data = tiny.llama(), tiny.calibration(nsamples=12, seqlen=24)

    def walk() -> None:
        for layer, _, target in calibrated(model, data, Unstructured(0.5), FeatureNorm):
            layer.weight.mul_(target.mask(layer.weight.abs()))

    found, tokens = counted(model, walk), 12 * 24  # which fit in one call
    assert found.forward_tokens == round((tokens + BLOCKS * tokens + (BLOCKS - 1) * tokens) / BLOCKS)
    assert (found.backward_tokens, found.training) == (0, "none")


def test_weights_are_the_same_with_and_without() -> None:
    models = [tiny.llama() for _ in range(2)]
    data = [tiny.calibration() for _ in range(2)]
    OwnLoop().prune(models[0], data[0], Unstructured(0.5))
    counted(models[1], lambda: OwnLoop().prune(models[1], data[1], Unstructured(0.5)))
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(one, other)


def test_nothing_is_left_behind() -> None:
    model = tiny.llama()
    before = [set(vars(module)) for module in model.modules()]
    hooks = len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_forward_pre_hooks)
    with EffortMeter(model):
        assert sum(MARK in vars(module) for module in model.modules())
        pickle.dumps(model)
    assert [set(vars(module)) for module in model.modules()] == before
    after = len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_forward_pre_hooks)
    assert after == hooks


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_passes_count_twice(reentrant: bool) -> None:
    model = tiny.llama().train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    found = counted(model, lambda: step(model))
    assert (found.forward_tokens, found.backward_tokens, found.training) == (64, 32, "end-to-end")
    outside = LLAMA - BLOCKS * LLAMA_BLOCK
    assert found.flops == 6 * LLAMA * 32 + 2 * (LLAMA - outside) * 32


@pytest.mark.parametrize("make", [copy.deepcopy, lambda model: tiny.llama()])
def test_a_teacher_counts_forward(make: Callable[[Any], Any]) -> None:
    model = tiny.llama()

    def work() -> None:
        teacher = make(model)
        with torch.no_grad():
            teacher(IDS)
        step(model)

    flops = 2 * LLAMA * 32 + 6 * LLAMA * 32
    assert counted(model, work) == Counts(forward_tokens=64, backward_tokens=32, flops=flops, training="end-to-end")


def test_inference_alone_is_no_training() -> None:
    model = tiny.llama()
    with torch.no_grad():
        found = counted(model, lambda: model(IDS))
    assert found == Counts(forward_tokens=32, backward_tokens=0, flops=2 * LLAMA * 32, training="none")


def test_functional_gradients_count() -> None:
    model = tiny.llama()
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        result: torch.Tensor = functional_call(model, weights, (), {"input_ids": IDS, "labels": IDS}).loss
        return result

    found = counted(model, lambda: grad(loss)(weights))
    assert found == Counts(forward_tokens=32, backward_tokens=32, flops=6 * LLAMA * 32, training="end-to-end")


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_code_counts(whole: bool) -> None:
    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    model = tiny.llama()

    def work() -> None:
        if whole:
            compiled = torch.compile(model, backend="eager")
        else:
            compiled = model
            for block in model.model.layers:
                block.compile(backend="eager")
        for _ in range(2):
            step(compiled)

    found = counted(model, work)
    assert found == Counts(forward_tokens=64, backward_tokens=64, flops=6 * LLAMA * 64, training="end-to-end")


class Masked(nn.Module):
    """A linear module in place of another one, with a mask on its weight."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.weight = inner.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight * (self.weight.abs() > 0.01))


def test_modules_in_place_of_others_count() -> None:
    model = tiny.llama()

    def work() -> None:
        for block in model.model.layers:
            block.mlp.up_proj = Masked(block.mlp.up_proj)
            block.self_attn.q_proj = Masked(block.self_attn.q_proj)
        step(model)

    found = counted(model, work)
    assert found == Counts(forward_tokens=32, backward_tokens=32, flops=6 * LLAMA * 32, training="end-to-end")


def test_a_replaced_forward_counts_what_it_runs() -> None:
    """A block that is skipped costs nothing, though it was called."""
    model = tiny.llama()
    model.model.layers[1].forward = lambda hidden, *args, **kwargs: hidden
    with torch.no_grad():
        found = counted(model, lambda: model(IDS))
    assert found.forward_tokens == round(32 * (BLOCKS - 1) / BLOCKS)
    assert found.flops == 2 * (LLAMA - LLAMA_BLOCK) * 32


def test_a_layer_by_itself_is_part_of_a_block() -> None:
    model = tiny.llama()
    x = torch.ones(5, 7, 32)
    found = counted(model, lambda: model.model.layers[2].mlp.up_proj(x).sum().backward())
    assert found == Counts(forward_tokens=12, backward_tokens=12, flops=6 * 48 * 32 * 35, training="block")  # 35 / 3


def record_of(write_suite: Callable[..., Path], method: str, **lines: str) -> Record:
    path = write_suite(methods=f"methods: [{method}]", sparsities="sparsities: [0.5]", **lines)
    (cell,) = plan(load_suite(path), plugin_files=[PLUGINS])
    record, _ = run_cell(cell, Resources(), SilentDisplay())
    assert record.status == "ok", record.error
    return record


def test_records_hold_the_effort(write_suite: Callable[..., Path]) -> None:
    """The method keeps its contract: the harness's hooks are not its own."""
    record = record_of(write_suite, "{name: own-loop, options: {steps: 3, batch_size: 2}}")
    (effort,) = record.effort
    assert (effort.stage, effort.forward_tokens, effort.backward_tokens) == (0, 3 * 2 * 16, 3 * 2 * 16)
    assert effort.seconds == record.cost.prune_seconds
    assert record.method is not None
    assert record.method.training == "end-to-end"


def test_an_allocation_counts(write_suite: Callable[..., Path]) -> None:
    """OWL walks over the blocks before magnitude pruning, which walks over none; its time is time of pruning."""
    record = record_of(write_suite, "magnitude", allocation="allocation: owl")
    tokens = 8 * 16
    (effort,) = record.effort
    assert effort.forward_tokens == round((tokens + BLOCKS * tokens + (BLOCKS - 1) * tokens) / BLOCKS)
    assert record.cost.prune_seconds > (record.cost.model_extra or {})["allocate_seconds"] > 0
    assert record.method is not None
    assert record.method.training == "none"


def test_a_baseline_takes_none(write_suite: Callable[..., Path]) -> None:
    (effort,) = record_of(write_suite, "dense").effort
    assert (effort.forward_tokens, effort.backward_tokens, effort.flops) == (0, 0, 0)
