"""Layers and the block walk, on every architecture."""

import copy
import re
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunebench.pruning import (
    CalibrationData,
    FactorisationError,
    FeatureNorm,
    Hessian,
    Layer,
    StatisticError,
    UnknownMatrixError,
    Unstructured,
    calibrated,
    prunable,
)
from prunebench.pruning.callbacks import use_observer
from prunebench.pruning.layers import all_layers
from tests.helpers import tiny
from tests.helpers.layerwise import layer_of
from tests.helpers.observers import RecordingObserver


class Inputs:
    """A statistic that keeps everything it is shown."""

    def __init__(self, layer: Layer) -> None:
        self.seen: list[Tensor] = []

    def add(self, X: Tensor) -> None:
        self.seen.append(X.clone())


@pytest.mark.parametrize("name", tiny.MODELS)
def test_every_matrix_in_the_blocks_is_found(name: str) -> None:
    model = tiny.MODELS[name]()
    layers = all_layers(model)
    assert len(layers) == 3 * tiny.MATRICES[name]
    for layer in layers:
        layer.weight[0, -1] = 7.0
        seen = layer.view(torch.arange(layer.parameter.numel()).view(layer.parameter.shape))
        assert layer.parameter.detach().flatten()[seen[0, -1]] == 7.0
        if layer.expert is None:
            assert model.get_parameter(f"{layer.name}.weight") is layer.parameter
        else:
            experts, number, kind = layer.name.rsplit(".", 2)
            assert model.get_parameter(f"{experts}.{kind}") is layer.parameter
            assert int(number) == layer.expert
    # Each is handed out once, and what is left over are routers and the biases of experts.
    assert len({(id(layer.parameter), layer.expert) for layer in layers}) == len(layers)
    prunable_ids = {id(layer.parameter) for layer in layers}
    others = {
        key.split(".", 3)[-1]
        for key, parameter in model.named_parameters()
        if parameter.dim() >= 2 and (".layers." in key or ".h." in key) and id(parameter) not in prunable_ids
    }
    assert others == {
        "gpt_oss": {"mlp.router.weight", "mlp.experts.gate_up_proj_bias", "mlp.experts.down_proj_bias"},
        "qwen2_moe": {"mlp.gate.weight", "mlp.shared_expert_gate.weight"},
        **{key: {"mlp.gate.weight"} for key in ("mixtral", "qwen3_moe", "olmoe")},
    }.get(name, set())


def test_conv1d_is_seen_as_out_in() -> None:
    layers = {layer.name: layer for layer in all_layers(tiny.gpt2())}
    assert layers["transformer.h.0.attn.c_attn"].shape == (96, 32)


def test_experts_are_seen_as_out_in() -> None:
    for name in ("mixtral", "gpt_oss"):
        shapes = {layer.name: layer.shape for layer in all_layers(tiny.MODELS[name]())}
        assert shapes["model.layers.0.mlp.experts.3.gate_up_proj"] == (96, 32)
        assert shapes["model.layers.0.mlp.experts.3.down_proj"] == (32, 48)


def test_an_unknown_matrix_is_refused_by_name() -> None:
    model = tiny.mixtral()
    model.model.layers[1].mlp.mixer = nn.Parameter(torch.zeros(3, 4))
    with pytest.raises(UnknownMatrixError, match=r"MixtralForCausalLM: model\.layers\.1\.mlp\.mixer of shape \(3, 4\)"):
        list(prunable(model, Unstructured(0.5)))


def test_experts_of_another_layout_are_refused_by_name() -> None:
    model = tiny.mixtral()
    del model.model.layers[0].mlp.experts.is_transposed
    with pytest.raises(UnknownMatrixError, match=r"layers\.0\.mlp\.experts\.gate_up_proj of shape \(4, 96, 32\)"):
        list(prunable(model, Unstructured(0.5)))


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UnknownMatrixError, match="expected one list"):
        list(prunable(nn.Linear(2, 2), Unstructured(0.5)))


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


def test_statistics_are_what_they_say() -> None:
    X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    layer = layer_of(torch.zeros(3, 6))
    H, norm = Hessian(layer), FeatureNorm(layer)
    for part in X.split(20):
        H.add(part)
        norm.add(part)
    torch.testing.assert_close(H.matrix, X.T @ X / 50)
    torch.testing.assert_close(norm.value, X.norm(dim=0))
    U = H.factor(0.01)
    damped = H.matrix + 0.01 * H.matrix.diagonal().mean() * torch.eye(6)
    torch.testing.assert_close(U.T @ U, torch.linalg.inv(damped), rtol=1e-4, atol=1e-5)
    assert torch.equal(U, U.triu())
    assert H.factor(0.01) is U


def test_damping_is_raised_and_noted() -> None:
    observer = RecordingObserver()
    H = Hessian(layer_of(torch.zeros(1, 4)))
    H.add(torch.ones(3, 4))  # rank one
    with use_observer(observer):
        U = H.factor(0.0)
    assert torch.isfinite(U).all()
    assert observer.messages == ["damping raised: the Hessian was not positive definite"]


def test_an_indefinite_matrix_is_given_up_on_after_the_stated_damping() -> None:
    observer = RecordingObserver()
    H = Hessian(layer_of(torch.zeros(1, 3)))
    H.add(torch.ones(3, 3))
    H.matrix[0, 1] = H.matrix[1, 0] = 9.0
    with use_observer(observer), pytest.raises(FactorisationError, match=r"linear: .*percdamp 1\.0"):
        H.factor(0.01)
    assert [where["percdamp"] for _, where in observer.notes] == [0.1, 1.0]


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf")])
def test_a_statistic_with_nan_names_its_layer(spoiled: float) -> None:
    X = torch.ones(3, 4)
    X[1, 2] = spoiled
    H, norm = Hessian(layer_of(torch.zeros(1, 4))), FeatureNorm(layer_of(torch.zeros(1, 4)))
    H.add(X)
    norm.add(X)
    for ask in (lambda: H.matrix, lambda: H.factor(0.01), lambda: norm.value):
        with pytest.raises(StatisticError, match=r"linear: .*NaN"):
            ask()


@pytest.mark.parametrize("columns", [3, 64, 200])
def test_a_hessian_of_strips_is_the_whole_matrix(columns: int) -> None:
    X = torch.randn(50, columns, generator=torch.Generator().manual_seed(0))
    H = Hessian(layer_of(torch.zeros(1, columns)))
    H.add(X[:20])
    # Asked for between two parts. Within a strip some processors sum (i, j) and (j, i) in different orders.
    torch.testing.assert_close(H.matrix, H.matrix.t(), rtol=1e-5, atol=1e-6)
    H.add(X[:0])
    H.add(X[20:])
    torch.testing.assert_close(H.matrix, X.T @ X / 50, rtol=1e-5, atol=1e-6)
    assert H.tokens == 50


class TestCalibrationData:
    def test_windows_are_different_pieces_of_the_stream(self) -> None:
        data = CalibrationData(torch.arange(100), nsamples=5, seqlen=8, seed=0)
        assert data.windows.shape == (5, 8)
        starts = data.windows[:, 0].tolist()
        assert len(set(starts)) == 5
        assert all(start % 8 == 0 for start in starts)
        assert torch.equal(data.windows, data.windows[:, :1] + torch.arange(8))

    def test_seeds_differ_and_repeat(self) -> None:
        pool = torch.arange(1000)
        draw = [CalibrationData(pool, nsamples=9, seqlen=8, seed=seed).windows for seed in (0, 0, 1)]
        assert torch.equal(draw[0], draw[1])
        assert not torch.equal(draw[0], draw[2])

    def test_batches_restart_anywhere(self) -> None:
        data = CalibrationData(torch.arange(1000), nsamples=9, seqlen=8, seed=3)
        batches = data.batches(4)
        first = [next(batches) for _ in range(5)]
        assert torch.equal(next(data.batches(4, start=3)), first[3])
        assert not torch.equal(first[0], first[1])
        assert first[0].shape == (4, 8)

    def test_documents_are_drawn_whole(self) -> None:
        pool = torch.arange(60).view(6, 10)
        data = CalibrationData(pool, nsamples=4, seqlen=10, seed=0)
        assert all(row[0] % 10 == 0 for row in data.windows)
        assert all(row[0] % 10 == 0 for row in next(data.batches(8)))

    def test_tokens_taken_are_counted(self) -> None:
        data = CalibrationData(torch.arange(1000), nsamples=9, seqlen=8, seed=0)
        assert data.tokens_seen == 0
        _ = data.windows, data.windows
        assert data.tokens_seen == 72
        next(data.batches(2))
        assert data.tokens_seen == 72 + 16

    def test_text_shorter_than_a_window_is_refused(self) -> None:
        with pytest.raises(ValueError, match="7 tokens is shorter than one window of 8"):
            CalibrationData(torch.arange(7), nsamples=1, seqlen=8, seed=0)

    def test_fewer_windows_than_asked_for(self) -> None:
        assert CalibrationData(torch.arange(20), nsamples=128, seqlen=8, seed=0).nsamples == 2
