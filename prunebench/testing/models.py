"""Tiny randomly initialised models of each architecture, and calibration tokens for them; nothing is downloaded."""

from collections.abc import Callable

import torch
import transformers
from transformers import PreTrainedModel

from prunebench.pruning import CalibrationData

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


def _build(config: transformers.PretrainedConfig) -> PreTrainedModel:
    """A model of this configuration; its weights are drawn without touching the global generator."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    # Random initialisation is nearly the identity: larger weights make the blocks matter.
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
    keys = {key: value for key, value in COMMON.items() if key not in ("num_key_value_heads", "head_dim")}
    return _build(transformers.GPTNeoXConfig(**keys))


def mixtral() -> PreTrainedModel:
    """Mixtral, with fused experts."""
    return _build(transformers.MixtralConfig(**COMMON, num_local_experts=4))


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama,
    "opt": opt,
    "gpt2": gpt2,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "qwen3": qwen3,
    "neox": neox,
}

# Linear matrices in one block of each.
MATRICES = {"llama": 7, "opt": 6, "gpt2": 4, "gemma2": 7, "gemma3": 7, "qwen3": 7, "neox": 4}


def tokens(seed: int = 0, length: int = 4000) -> torch.Tensor:
    """Random tokens, (length,), of the vocabulary that all the models share."""
    return torch.randint(1, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def calibration(nsamples: int = 12, seqlen: int = 24, seed: int = 0) -> CalibrationData:
    """Calibration windows of random tokens, the same at each call."""
    return CalibrationData(tokens(), nsamples=nsamples, seqlen=seqlen, seed=seed)
