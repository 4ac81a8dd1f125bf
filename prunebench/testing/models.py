"""Tiny randomly initialised models of each architecture, and calibration tokens for them; nothing is downloaded."""

from collections.abc import Callable

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from prunebench.pruning import CalibrationData, Sparsity, prunable

VOCAB = 64
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "pad_token_id": 0,
}
HEADS_FROM_WIDTH = {key: value for key, value in COMMON.items() if key != "head_dim"}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}


def _build(config: transformers.PretrainedConfig) -> PreTrainedModel:
    """A model of this configuration; the global generator is left as it was."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    # Freshly initialised blocks are nearly the identity: larger weights make their outputs depend on them.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(5)
    torch.set_rng_state(state)
    return model


def llama() -> PreTrainedModel:
    """LLaMA with tied embeddings."""
    return _build(transformers.LlamaConfig(**COMMON, tie_word_embeddings=True))


def opt() -> PreTrainedModel:
    """OPT."""
    return _build(
        transformers.OPTConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=64,
            word_embed_proj_dim=32,
        )
    )


def gpt2() -> PreTrainedModel:
    """GPT-2, whose matrices are stored transposed."""
    return _build(
        transformers.GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
        )
    )


def gemma2() -> PreTrainedModel:
    """Gemma 2."""
    return _build(transformers.Gemma2Config(**COMMON, sliding_window=8, query_pre_attn_scalar=8))


def gemma3() -> PreTrainedModel:
    """Gemma 3, with sliding and full attention."""
    return _build(
        transformers.Gemma3TextConfig(
            **COMMON,
            sliding_window=8,
            query_pre_attn_scalar=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        )
    )


def qwen3() -> PreTrainedModel:
    """Qwen 3."""
    return _build(transformers.Qwen3Config(**COMMON))


def neox() -> PreTrainedModel:
    """GPT-NeoX, with one matrix for q, k and v."""
    keys = {key: value for key, value in HEADS_FROM_WIDTH.items() if key != "num_key_value_heads"}
    return _build(transformers.GPTNeoXConfig(**keys))


def llama3() -> PreTrainedModel:
    """LLaMA 3: one key and value head for all queries, scaled rotary embeddings, a head of its own."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    keys = {**COMMON, "num_key_value_heads": 1}
    return _build(transformers.LlamaConfig(**keys, rope_parameters=rope, tie_word_embeddings=False))


def qwen2() -> PreTrainedModel:
    """Qwen 2, whose q, k and v have biases."""
    return _build(transformers.Qwen2Config(**HEADS_FROM_WIDTH))


def mistral() -> PreTrainedModel:
    """Mistral, with sliding attention."""
    return _build(transformers.MistralConfig(**COMMON, sliding_window=8))


def phi3() -> PreTrainedModel:
    """Phi-3, with one matrix for q, k and v, and one for gate and up."""
    return _build(transformers.Phi3Config(**HEADS_FROM_WIDTH, eos_token_id=2))


def olmo() -> PreTrainedModel:
    """OLMo, whose norms have no weights."""
    return _build(transformers.OlmoConfig(**HEADS_FROM_WIDTH, eos_token_id=2))


def olmo2() -> PreTrainedModel:
    """OLMo 2, which norms what leaves its parts."""
    return _build(transformers.Olmo2Config(**HEADS_FROM_WIDTH, eos_token_id=2))


def mixtral() -> PreTrainedModel:
    """Mixtral: four experts, two a token."""
    return _build(transformers.MixtralConfig(**COMMON, num_local_experts=4))


def qwen2_moe() -> PreTrainedModel:
    """Qwen 2 with experts, and a shared one that a gate weighs."""
    return _build(
        transformers.Qwen2MoeConfig(
            **HEADS_FROM_WIDTH, **EXPERTS, moe_intermediate_size=16, shared_expert_intermediate_size=24
        )
    )


def qwen3_moe() -> PreTrainedModel:
    """Qwen 3 with experts."""
    return _build(transformers.Qwen3MoeConfig(**COMMON, **EXPERTS, moe_intermediate_size=16))


def olmoe() -> PreTrainedModel:
    """OLMoE."""
    return _build(transformers.OlmoeConfig(**HEADS_FROM_WIDTH, **EXPERTS, eos_token_id=2))


def gpt_oss() -> PreTrainedModel:
    """gpt-oss: experts stored transposed, gate and up interleaved, with biases."""
    model = _build(
        transformers.GptOssConfig(
            **COMMON,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=8,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            eos_token_id=2,
        )
    )
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # initialised to zero, which would hide that a method ignores a bias
            parameter.detach().normal_(std=0.1, generator=generator)
    return model


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama,
    "llama3": llama3,
    "opt": opt,
    "gpt2": gpt2,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "mistral": mistral,
    "phi3": phi3,
    "neox": neox,
    "olmo": olmo,
    "olmo2": olmo2,
    "mixtral": mixtral,
    "qwen2_moe": qwen2_moe,
    "qwen3_moe": qwen3_moe,
    "olmoe": olmoe,
    "gpt_oss": gpt_oss,
}

# Linear matrices in one block of each model: 7 unless stated; an expert has two.
MATRICES = dict.fromkeys(MODELS, 7) | {
    "opt": 6,
    "gpt2": 4,
    "phi3": 4,
    "neox": 4,
    "mixtral": 12,
    "qwen2_moe": 15,
    "qwen3_moe": 12,
    "olmoe": 12,
    "gpt_oss": 12,
}


def tokens(seed: int = 0, length: int = 4000) -> torch.Tensor:
    """Random token ids, int64 (length,), of the vocabulary that all the models share."""
    return torch.randint(1, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def calibration(
    nsamples: int = 12, seqlen: int = 24, seed: int = 0, teacher: Callable[[], PreTrainedModel] | None = None
) -> CalibrationData:
    """Calibration data of random tokens, the same at each call.

    Args:
        nsamples: number of windows.
        seqlen: tokens per window.
        seed: of the windows; the pool of tokens is always the same.
        teacher: makes the dense model, for ``data.teacher``.
    """
    return CalibrationData(tokens(), nsamples=nsamples, seqlen=seqlen, seed=seed, teacher=teacher)


def prune_by_magnitude(model: nn.Module, sparsity: Sparsity) -> None:
    """Make a model sparse, for a method that follows another."""
    for layer, target in prunable(model, sparsity):
        layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
