"""The walk by blocks: statistics, outputs and targets against whole models, and what is carried along."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.contract.checks import watched
from prunebench.models.loading import load_on_disk
from prunebench.models.source import ModelSource
from prunebench.pruning import Hessian, Layer, Unstructured, blocks, calibrated, decoder_blocks, fit, masks, prunable
from prunebench.pruning.callbacks import use_checkpointer
from prunebench.pruning.offload import written_back
from prunebench.testing.trial import InterruptingCheckpointer, Interruption
from tests.helpers import tiny

SEVERAL = ("llama", "opt", "gpt2", "gemma3", "mixtral", "gpt_oss")
HALF = Unstructured(0.5)


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunebench.pruning.walk.TOKENS_PER_CALL", 5 * 24)  # batches of 5, 5 and 2


def prune(layers: list[tuple[Layer, Any]]) -> None:
    for layer, target in layers:
        layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)


def outputs_of(model: Any, windows: Tensor) -> list[Tensor]:
    """What each decoder block gives when the whole model runs."""
    found: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_hook(keep) for block in decoder_blocks(model)]
    with torch.no_grad():
        model(input_ids=windows, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", tiny.MODELS)
def test_statistics_are_those_of_calibrated(name: str) -> None:
    one, other = tiny.MODELS[name](), tiny.MODELS[name]()
    expected = {}
    for layer, H, target in calibrated(one, tiny.calibration(), HALF, Hessian):
        expected[layer.name] = H.matrix.clone()
        prune([(layer, target)])
    for block in blocks(other, tiny.calibration(), HALF):
        for layer_name, H in block.statistics(Hessian).items():
            assert torch.equal(H.matrix, expected.pop(layer_name))
        prune(block.layers)
    assert not expected
    assert all(torch.equal(t, one.state_dict()[key]) for key, t in other.state_dict().items())


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", SEVERAL)
def test_outputs_and_targets_are_those_of_whole_models(name: str, dense: bool) -> None:
    """``run`` gives the pruned model's states; ``targets`` the block's own before pruning, or the dense model's."""
    model, data = tiny.MODELS[name](), tiny.calibration()
    original = outputs_of(model, data.windows)
    for block in blocks(model, data, HALF, dense=dense):
        assert len(block) == 3
        before = copy.deepcopy(model)  # its earlier blocks are pruned
        wanted = original[block.index] if dense else outputs_of(before, data.windows)[block.index]
        targets = torch.cat([block.targets[batch] for batch in range(len(block))])
        torch.testing.assert_close(targets, wanted, rtol=1e-4, atol=1e-5)
        prune(block.layers)
        found = torch.cat([block.run(batch).detach() for batch in range(len(block))])
        torch.testing.assert_close(found, outputs_of(model, data.windows)[block.index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_output_is_differentiable_by_matrices_that_are_given(name: str) -> None:
    model = tiny.MODELS[name]()
    block = next(iter(blocks(model, tiny.calibration(), HALF)))
    given = {layer.name: layer.weight.clone().requires_grad_() for layer, _ in block.layers}
    (block.run(0, given) * block.run(0)).sum().backward()  # type: ignore[no-untyped-call]
    for layer, _ in block.layers:
        own = layer.parameter.grad
        assert own is not None
        torch.testing.assert_close(given[layer.name].grad, layer.view(own), rtol=1e-4, atol=1e-4)
        assert own.abs().max() > 0


class Pairs:
    """Keeps the inputs of both models."""

    def __init__(self, layer: Layer) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def add(self, X: Tensor) -> None:
        raise AssertionError("it takes pairs")

    def add_pair(self, X: Tensor, D: Tensor) -> None:
        self.seen.append((X.clone(), D.clone()))


class Inputs:
    """Keeps what it is shown."""

    def __init__(self, layer: Layer) -> None:
        self.seen: list[Tensor] = []

    def add(self, X: Tensor) -> None:
        self.seen.append(X.clone())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_pairs_of_inputs_are_those_of_the_pruned_and_of_the_dense_model(name: str) -> None:
    model, untouched, data = tiny.MODELS[name](), tiny.MODELS[name](), tiny.calibration()
    dense = {layer.name: inputs.seen for layer, inputs, _ in calibrated(untouched, data, HALF, Inputs)}
    moved = 0
    for block in blocks(model, data, HALF, dense=True):
        alone = block.statistics(lambda layer: Inputs(layer))
        for layer_name, pairs in block.statistics(Pairs).items():
            if not pairs.seen:
                continue
            for (X, D), one, there in zip(pairs.seen, alone[layer_name].seen, dense[layer_name], strict=True):
                assert torch.equal(X, one)
                torch.testing.assert_close(D, there, rtol=1e-4, atol=1e-5)
                moved += not torch.allclose(X, D, rtol=1e-3)
        prune(block.layers)
    assert moved > 6


def test_an_experts_pairs_are_of_the_tokens_that_the_pruned_model_routes_to_it() -> None:
    """So each pair is of one token: in the first block, where both models see the same, they are equal."""
    model, data = tiny.mixtral(), tiny.calibration()
    counts = {}
    for block in blocks(model, data, HALF, dense=True):
        for layer_name, pairs in block.statistics(Pairs).items():
            for X, D in pairs.seen:
                assert X.shape == D.shape
                assert block.index or torch.equal(X, D)
            counts[layer_name] = sum(len(X) for X, _ in pairs.seen)
        prune(block.layers)
    routed = {}
    again = tiny.mixtral()
    for layer, inputs, target in calibrated(again, data, HALF, Inputs):
        routed[layer.name] = sum(len(X) for X in inputs.seen)
        prune([(layer, target)])
    experts = [layer_name for layer_name in counts if ".experts." in layer_name]
    assert len(experts) == 3 * 8
    assert all(counts[layer_name] == routed[layer_name] for layer_name in experts)


def test_targets_are_refused_once_the_block_was_written_to() -> None:
    for block in blocks(tiny.llama(), tiny.calibration(), HALF):
        prune(block.layers)
        with pytest.raises(RuntimeError, match="targets of block 0 were asked for after it was written to"):
            _ = block.targets
        break


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", SEVERAL)
def test_a_teachers_targets(name: str, dense: bool) -> None:
    """Of its own block on the inputs of the model that is walked, or on its own: also where embeddings differ."""
    model, teacher, data = tiny.MODELS[name](), tiny.MODELS[name](), tiny.calibration()
    prune(list(prunable(model, HALF)))
    model.get_input_embeddings().weight.data.mul_(0.9)
    original = outputs_of(teacher, data.windows)
    for block in blocks(model, data, HALF, dense=dense, teacher=teacher):
        mixed = copy.deepcopy(model)
        decoder_blocks(mixed)[block.index].load_state_dict(decoder_blocks(teacher)[block.index].state_dict())
        wanted = original[block.index] if dense else outputs_of(mixed, data.windows)[block.index]
        for layer, _ in block.layers:
            layer.weight.mul_(0.5)
        targets = torch.cat([block.targets[batch] for batch in range(len(block))])  # after the first write, too
        torch.testing.assert_close(targets, wanted, rtol=1e-4, atol=1e-5)
        assert not any(statistic.pairs for statistic in block.statistics(CountedPairs).values())


class CountedPairs:
    def __init__(self, layer: Layer) -> None:
        self.pairs = 0

    def add(self, X: Tensor) -> None:
        pass

    def add_pair(self, X: Tensor, D: Tensor) -> None:
        self.pairs += 1


@pytest.mark.parametrize("dense", [False, True])
def test_an_interrupted_walk_with_a_teacher_ends_with_the_same_bits(dense: bool) -> None:
    def halve(model: Any) -> None:
        for block in blocks(model, tiny.calibration(), HALF, dense=dense, teacher=tiny.llama()):
            change = torch.stack([block.targets[batch].mean() for batch in range(len(block))]).mean()
            for layer, _ in block.layers:
                layer.weight.mul_(1 + change)

    whole, resumed, checkpointer = tiny.llama(), tiny.llama(), InterruptingCheckpointer(2)
    halve(whole)
    with pytest.raises(Interruption), use_checkpointer(checkpointer):
        halve(tiny.llama())
    with use_checkpointer(checkpointer):
        halve(resumed)
    assert all(torch.equal(t, whole.state_dict()[key]) for key, t in resumed.state_dict().items())


def reconstruct(model: Any, dense: bool = False) -> None:
    """Prune by magnitude, then fit each block's kept weights to what it gave before."""
    for block in blocks(model, tiny.calibration(), HALF, dense=dense):
        targets = block.targets
        prune(block.layers)
        held = masks(layer.parameter for layer, _ in block.layers)

        def loss(t: int, block: Any = block, targets: Any = targets) -> Tensor:
            found = block.run(t % len(block))
            return (found.float() - targets[t % len(block)].float()).square().mean()

        fit(loss, list(held), steps=6, lr=3e-3, held=held, model=block.module)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "gpt_oss"])
def test_blocks_that_are_trained_come_nearer_to_the_dense_model(name: str, dtype: torch.dtype) -> None:
    windows = tiny.calibration().windows
    dense, plain, fitted = (tiny.MODELS[name]().to(dtype) for _ in range(3))
    prune(list(prunable(plain, HALF)))
    reconstruct(fitted, dense=True)
    errors = [(outputs_of(one, windows)[-1] - outputs_of(dense, windows)[-1]).norm() for one in (fitted, plain)]
    assert errors[0] < 0.97 * errors[1]
    assert all(p.dtype == dtype for p in fitted.parameters())
    zeros = [torch.equal(a.weight == 0, b.weight == 0) for (a, _), (b, _) in zip(
        prunable(plain, HALF), prunable(fitted, HALF), strict=True)]  # fmt: skip
    assert all(zeros)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("saves", [3, 7, 11])
def test_an_interrupted_walk_ends_with_the_same_bits(dense: bool, saves: int) -> None:
    """Saves are made at every step of ``fit`` and after every block: 3 within the first, 7 after it, 11 in the next."""
    whole, resumed, checkpointer = tiny.mixtral(), tiny.mixtral(), InterruptingCheckpointer(saves)
    reconstruct(whole, dense)
    with pytest.raises(Interruption), use_checkpointer(checkpointer):
        reconstruct(tiny.mixtral(), dense)
    with use_checkpointer(checkpointer):
        reconstruct(resumed, dense)
    assert all(torch.equal(t, whole.state_dict()[key]) for key, t in resumed.state_dict().items())


@pytest.mark.parametrize("dense", [False, True])
def test_a_model_on_disk(dense: bool, tmp_path: Any) -> None:
    tiny.mixtral().save_pretrained(tmp_path / "model")
    here = tiny.mixtral()
    there = load_on_disk(ModelSource("it", tmp_path / "model", None, ""), dtype="float32", work=tmp_path / "work")
    reconstruct(here, dense)
    with written_back(there):
        reconstruct(there, dense)
    after = {layer.name: layer.weight.clone() for layer, _ in prunable(there, HALF)}
    assert all(torch.equal(layer.weight, after[layer.name]) for layer, _ in prunable(here, HALF))


def test_a_block_that_is_pruned_too_late_is_told() -> None:
    with watched() as watch:
        previous: list[Any] = []
        for block in blocks(tiny.llama(), tiny.calibration(), HALF):
            prune(previous)
            previous = block.layers
    assert watch.unfinished[0] == ("model.layers.0.self_attn.q_proj", 0, 512)
    with watched() as watch:
        for block in blocks(tiny.llama(), tiny.calibration(), HALF):
            prune(block.layers)
    assert not watch.unfinished
