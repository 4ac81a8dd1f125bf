"""The tiny models that ``prunebench.testing`` ships, one matrix by itself, and a model for 8-bit moments."""

import torch
import transformers

from prunebench.testing.models import (
    COMMON,
    MATRICES,
    MODELS,
    VOCAB,
    calibration,
    gemma2,
    gemma3,
    gpt2,
    llama,
    mixtral,
    neox,
    opt,
    qwen3,
    tokens,
)

__all__ = [
    "COMMON",
    "MATRICES",
    "MODELS",
    "VOCAB",
    "calibration",
    "gemma2",
    "gemma3",
    "gpt2",
    "llama",
    "mixtral",
    "neox",
    "opt",
    "qwen3",
    "tokens",
    "wide_llama",
]


def wide_llama() -> transformers.PreTrainedModel:
    """LLaMA whose MLPs are large enough for 8-bit moments, with rows of more than one block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**COMMON | {"intermediate_size": 300})).eval()
