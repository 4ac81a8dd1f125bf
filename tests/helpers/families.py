"""Tiny random models of the families that people download: plain transformers, mixtures, hybrids, wrappers."""

import copy
from collections.abc import Callable
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
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
ROUTED = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
SLIDING = {"sliding_window": 8}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
PER_LAYER = {"vocab_size_per_layer_input": models.VOCAB, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
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
# Decoders whose matrices are all linear modules, or stacks of experts.
PLAIN: dict[str, dict[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "biogpt": {},
    "bitnet": {},
    "bloom": {"n_layer": 3, "n_head": 4},
    "codegen": {**GPT, "rotary_dim": 4},
    "cohere": {},
    "cohere2": SLIDING,
    "deepseek_v2": {**LATENT, **ROUTED},
    "deepseek_v3": {**LATENT, **ROUTED},
    "deepseek_v32": {**LATENT, **ROUTED, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 8},
    "dots1": ROUTED,
    "ernie4_5": {},
    "ernie4_5_moe": {
        "moe_num_experts": 4,
        "moe_k": 2,
        "moe_intermediate_size": 16,
        "moe_num_shared_experts": 1,
        "moe_layer_start_index": 1,
        "moe_layer_end_index": 2,
    },
    "exaone4": SLIDING,
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True},
    "falcon_mamba": {"state_size": 8},
    "gemma": {},
    "gemma3n_text": {
        **PER_LAYER,
        **SLIDING,
        "num_hidden_layers": 5,
        "intermediate_size": [48] * 5,
        "layer_types": ["sliding_attention"] * 4 + ["full_attention"],
        "laurel_rank": 4,
        "altup_num_inputs": 4,
        "activation_sparsity_pattern": [0.0] * 5,
    },
    "gemma4_text": {
        **PER_LAYER,
        **SLIDING,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "global_head_dim": 8,
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": ROUTED,
    "gpt_bigcode": GPT,
    "gpt_neo": {
        "num_layers": 3,
        "num_heads": 4,
        "attention_types": [[["global", "local", "global"], 1]],
        "window_size": 8,
    },
    "gptj": {**GPT, "rotary_dim": 4},
    "granite": {},
    "granitemoe": EXPERTS,
    "helium": {},
    "hunyuan_v1_dense": {},
    "internlm3": {},
    "minicpm3": LATENT,
    "minimax": {
        **EXPERTS,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "block_size": 8,
    },
    "ministral3": {},
    "mpt": {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 2},
    "nanochat": {},
    "nemotron": {},
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "moe"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
        "moe_latent_size": None,
    },
    "olmo3": SLIDING,
    "persimmon": {},
    "phi": {},
    "phimoe": {"num_local_experts": 4},
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4},
}
# Matrices in all blocks of each, counted by hand from its architecture: 21 (three blocks of 7) unless stated.
PLAIN_MATRICES = dict.fromkeys(PLAIN, 21) | {
    "apertus": 3 * 6,
    "arcee": 3 * 6,
    "biogpt": 3 * 6,
    "bloom": 3 * 4,
    "codegen": 3 * 4,
    "deepseek_v2": (5 + 3) + 2 * (5 + 4 * 2 + 3),
    "deepseek_v3": (5 + 3) + 2 * (5 + 4 * 2 + 3),
    "deepseek_v32": (8 + 3) + 2 * (8 + 4 * 2 + 3),
    "dots1": 7 + 2 * (4 + 4 * 2 + 3),
    "ernie4_5_moe": 7 + 2 * (4 + 4 * 2 + 3),
    "falcon": 3 * 4,
    "falcon_mamba": 3 * 4,
    "gemma3n_text": 5 * (7 + 2 + 2),
    "gemma4_text": 3 * (7 + 2),
    "glm": 3 * 6,
    "glm4": 3 * 6,
    "glm4_moe": 7 + 2 * (4 + 4 * 2 + 3),
    "gpt_bigcode": 3 * 4,
    "gpt_neo": 3 * 6,
    "gptj": 3 * 6,
    "granitemoe": 3 * (4 + 4 * 2),
    "minicpm3": 3 * (5 + 3),
    "minimax": 2 * (3 + 4 * 2) + (4 + 4 * 2),
    "mpt": 3 * 4,
    "nanochat": 3 * 6,
    "nemotron": 3 * 6,
    "nemotron_h": 2 + 4 + (4 * 2 + 2),
    "persimmon": 3 * 4,
    "phi": 3 * 6,
    "phimoe": 3 * (4 + 4 * 2),
    "starcoder2": 3 * 6,
    "xglm": 3 * 6,
}
NO_HEAD_DIM = frozenset(
    {"mamba", "jamba", "bamba", "granitemoehybrid", "lfm2", "rwkv", "jetmoe", "deepseek_v3", "falcon"}
)


def build(family: str) -> PreTrainedModel:
    """A causal language model of a family, in eval mode."""
    keys = {**COMMON, **copy.deepcopy({**FAMILIES, **PLAIN}[family])}
    if family in NO_HEAD_DIM:
        del keys["head_dim"]
    return scaled(lambda: transformers.AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**keys)))


MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
HEADS_FROM_WIDTH = {key: value for key, value in COMMON.items() if key != "head_dim"}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
QWEN_VISION = {
    "depth": 3,
    "hidden_size": 16,
    "intermediate_size": 24,
    "out_hidden_size": 32,
    "num_heads": 2,
    "patch_size": 14,
    "spatial_merge_size": 2,
}
TOKENS = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
GEMMA = {
    **COMMON,
    **SLIDING,
    "query_pre_attn_scalar": 8,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}
# Models of images and text, as (model type, keys of its configuration).
WRAPPERS: dict[str, dict[str, Any]] = {
    "gemma3": {"text_config": GEMMA, "vision_config": VISION, "mm_tokens_per_image": 4, "image_token_index": 60},
    "gemma4": {
        "text_config": {**GEMMA, **PER_LAYER, "global_head_dim": 8},
        "vision_config": {**VISION, "head_dim": 8, "num_key_value_heads": 2},
        "audio_config": None,
        "image_token_id": 60,
    },
    "llava": {
        "text_config": {**COMMON, "model_type": "llama"},
        "vision_config": {**VISION, "projection_dim": 16, "model_type": "clip_vision_model"},
        "image_token_index": 60,
    },
    "mistral3": {
        "text_config": {**COMMON, "model_type": "mistral"},
        "vision_config": {**VISION, "head_dim": 8, "model_type": "pixtral"},
        "image_token_index": 60,
    },
    "qwen2_vl": {
        **TOKENS,
        "text_config": {**HEADS_FROM_WIDTH, "rope_parameters": MROPE},
        "vision_config": {
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "patch_size": 14,
            "mlp_ratio": 2,
            "spatial_merge_size": 2,
        },
    },
    "qwen2_5_vl": {
        **TOKENS,
        "text_config": {**HEADS_FROM_WIDTH, "rope_parameters": MROPE},
        "vision_config": {**QWEN_VISION, "window_size": 28, "fullatt_block_indexes": [1]},
    },
    "qwen3_vl": {
        **TOKENS,
        "text_config": {**COMMON, "rope_parameters": MROPE},
        "vision_config": {**QWEN_VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 4},
    },
    "qwen3_5": {
        **TOKENS,
        "text_config": {**COMMON, **LINEAR_ATTENTION},
        "vision_config": {**QWEN_VISION, "num_position_embeddings": 4},
    },
}


def build_wrapper(family: str = "qwen2_5_vl") -> PreTrainedModel:
    """A model of images and text, in eval mode."""
    config = CONFIG_MAPPING[family](**copy.deepcopy(WRAPPERS[family]))
    return scaled(lambda: transformers.AutoModelForImageTextToText.from_config(config))


def scaled(make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """A model whose matrices are large enough for its blocks to matter; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and "conv" not in name and "A_log" not in name:
                parameter.mul_(3)
    return model
