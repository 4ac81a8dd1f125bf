"""The tiny models that ``prunebench.testing`` ships, and one matrix by itself."""

import torch
from torch import nn

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
    "Single",
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


class Single(nn.Module):
    """One linear matrix, as a toolkit layer needs it for statistics."""

    def __init__(self, W: torch.Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(W.shape[1], W.shape[0], bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(W)
