"""The walk over a model's blocks, against a naive capture of the whole model."""

import copy
import re
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunebench.pruning import (
    FeatureNorm,
    Hessian,
    Layer,
    Unstructured,
    calibrated,
)
from prunebench.pruning.callbacks import use_observer
from prunebench.pruning.layers import all_layers
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver


class Inputs:
    """A statistic that keeps everything it is shown."""

    def __init__(self, layer: Layer) -> None:
        self.seen: list[Tensor] = []

    def add(self, X: Tensor) -> None:
        self.seen.append(X.clone())


class Products(TorchFunctionMode):
    """While this is entered, what is multiplied with one matrix; for products that cross no module boundary."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self._stored = layer.weight.t() if layer.transposed else layer.weight
        self.seen: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            if function in (nn.functional.linear, Tensor.matmul, Tensor.__matmul__) and torch.equal(
                args[1], self._stored
            ):
                self.seen.append(args[0])
        return function(*args, **(kwargs or {}))


def naive_inputs(model: Any, layer_name: str, windows: Tensor) -> Tensor:
    """What a layer sees when the whole model runs, window by window, with transformers' plain experts."""
    layer = next(layer for layer in all_layers(model) if layer.name == layer_name)
    seen: list[Tensor] = []
    with torch.no_grad(), ExitStack() as stack:
        if layer.expert is None:
            handle = layer.module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
            stack.callback(handle.remove)
        else:
            model.set_experts_implementation("eager")
            seen = stack.enter_context(Products(layer)).seen
        for window in windows:
            model(input_ids=window[None], use_cache=False)
    return torch.cat([x.reshape(-1, x.shape[-1]) for x in seen])


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_block_walk_equals_a_naive_capture_of_the_whole_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of a block come from the model whose earlier blocks are pruned and whose own is dense."""
    monkeypatch.setattr("prunebench.pruning.walk.TOKENS_PER_CALL", 5 * 24)  # batches of 5, 5 and 2
    model = tiny.MODELS[name]()
    shadow = copy.deepcopy(model)  # pruned one block behind
    shadows = {layer.name: layer for layer in all_layers(shadow)}
    data = tiny.calibration()
    pending: list[tuple[str, Tensor]] = []
    block = None
    for layer, inputs, target in calibrated(model, data, Unstructured(0.5), Inputs):
        here = re.match(r".*?\.\d+\.", layer.name)[0]  # type: ignore[index]
        if here != block:
            for done, weight in pending:
                shadows[done].weight.copy_(weight)
            block, pending = here, []
        seen, expected = torch.cat(inputs.seen), naive_inputs(shadow, layer.name, data.windows)
        if layer.expert is not None:  # transformers sorts an expert's tokens by how high they rank it
            seen, expected = (X[X[:, 0].argsort()] for X in (seen, expected))
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)
        layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
        pending.append((layer.name, layer.weight.clone()))
    assert not any(module._forward_pre_hooks or "forward" in vars(module) for module in model.modules())


def test_layers_that_read_the_same_tensor_share_a_statistic() -> None:
    owners: dict[int, list[str]] = {}
    kept = []
    for layer, H, _ in calibrated(tiny.llama(), tiny.calibration(), Unstructured(0.5), Hessian):
        owners.setdefault(id(H), []).append(layer.name.rpartition(".")[2])
        kept.append(H)
    assert sorted(map(sorted, owners.values())) == sorted(
        3 * [["k_proj", "q_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    )


def test_nothing_leaks_from_the_walk() -> None:
    model = tiny.llama()
    for _ in calibrated(model, tiny.calibration(), Unstructured(0.5), FeatureNorm):
        assert torch.is_grad_enabled()
        assert not any(module._forward_pre_hooks or "forward" in vars(module) for module in model.modules())
        break  # a consumer that stops early


def test_the_walk_reports_blocks() -> None:
    observer = RecordingObserver()
    with use_observer(observer):
        list(calibrated(tiny.llama(), tiny.calibration(), Unstructured(0.5), FeatureNorm))
    assert observer.steps == [("block", done, 3) for done in range(4)]
