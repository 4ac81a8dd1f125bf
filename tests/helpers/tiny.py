"""The tiny models that ``prunebench.testing`` ships, and one matrix by itself."""

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
]
