"""The layers of every architecture, seen as (out, in) matrices; what is unknown is refused by name."""

import pytest
import torch
from torch import nn
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

from prunebench.pruning import (
    UnknownMatrixError,
    Unstructured,
    prunable,
)
from prunebench.pruning.layers import all_layers
from tests.helpers import tiny


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


def test_what_mixes_parallel_hidden_states_is_left_alone() -> None:
    config = Gemma3nTextConfig(
        hidden_size=32,
        intermediate_size=[64, 64],
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=64,
        vocab_size_per_layer_input=64,
        hidden_size_per_layer_input=8,
        laurel_rank=4,
        altup_num_inputs=2,
        num_kv_shared_layers=0,
        activation_sparsity_pattern=[0.0, 0.0],
        layer_types=["full_attention", "full_attention"],
    )
    names = {layer.name.split(".", 3)[-1] for layer in all_layers(Gemma3nForCausalLM(config))}
    assert {"self_attn.q_proj", "mlp.down_proj", "laurel.linear_left", "per_layer_projection"} <= names
    assert not {name for name in names if name.startswith("altup")}
