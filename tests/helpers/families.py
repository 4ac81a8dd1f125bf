"""Tiny random models of families whose blocks differ from a plain transformer's: hybrids, state spaces, wrappers."""

import copy
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from prunebench.testing import models

COMMON: dict[str, Any] = {**models.COMMON, "bos_token_id": 1, "eos_token_id": 2}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LINEAR_ATTENTION = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
LLAMA4 = {
    "intermediate_size_mlp": 48,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1,
    "attention_chunk_size": 16,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "jamba": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "bamba": {"attn_layer_indices": [1], **MAMBA2},
    "granitemoehybrid": {
        **EXPERTS,
        **MAMBA2,
        "shared_intermediate_size": 24,
        "layer_types": ["mamba", "attention", "mamba"],
    },
    "falcon_h1": {**MAMBA2, "mamba_n_heads": 4, "mamba_d_ssm": 32},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False},
    "qwen3_5_text": LINEAR_ATTENTION,
    "qwen3_next": {
        **LINEAR_ATTENTION,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "recurrent_gemma": {
        "lru_width": 32,
        "attention_window_size": 8,
        "block_types": ["recurrent", "recurrent", "attention"],
    },
    "rwkv": {"attention_hidden_size": 32, "context_length": 64},
    "llama4_text": {**LLAMA4, "no_rope_layers": [1, 1, 0]},
    "jetmoe": {**EXPERTS, "kv_channels": 8},
}
NO_HEAD_DIM = frozenset({"mamba", "jamba", "bamba", "granitemoehybrid", "lfm2", "rwkv", "jetmoe"})


def build(family: str) -> PreTrainedModel:
    """A causal language model of a family, in eval mode."""
    keys = {**COMMON, **copy.deepcopy(FAMILIES[family])}
    if family in NO_HEAD_DIM:
        del keys["head_dim"]
    return scaled(lambda: transformers.AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**keys)))


def build_wrapper() -> PreTrainedModel:
    """A model of images and text with as many vision layers as text layers."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    text = {**{key: value for key, value in COMMON.items() if key != "head_dim"}, "rope_parameters": rope}
    vision = {
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 24,
        "out_hidden_size": 32,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "window_size": 28,
        "fullatt_block_indexes": [1],
    }
    tokens = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
    return scaled(lambda: transformers.Qwen2_5_VLForConditionalGeneration(config))


def scaled(make: Any) -> PreTrainedModel:
    """A model whose matrices are large enough for its blocks to matter; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = make().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and "conv" not in name and "A_log" not in name:
                parameter.mul_(3)
    return model
