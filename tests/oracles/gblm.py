"""GBLM-Pruner by loops, with gradients of one window at a time by a plain backward pass."""

from typing import Any

import torch
from torch import Tensor

from tests.oracles.training import linears


def gblm_score(W: Tensor, X: Tensor, gradients: Tensor, i: int, j: int, *, alpha: float, p: int) -> float:
    """Das et al., arXiv 2311.04902: |W_ij|·(α·‖G_:ij‖_p + ‖X_j‖₂), X_j a window's as in the authors' code.

    Args:
        W: (out, in).
        X: inputs (windows, tokens, in).
        gradients: (windows, out, in).
        i, j: which weight.
        alpha, p: of the gradients.
    """
    G = sum(abs(float(g)) ** p for g in gradients[:, i, j]) ** (1 / p)
    norm = (sum(float(x) ** 2 for x in X[:, :, j].flatten()) / len(X)) ** 0.5
    return abs(float(W[i, j])) * (alpha * G + norm)


def gradient_norms(model: Any, windows: Tensor, *, p: int) -> list[Tensor]:
    """For each matrix of a LLaMA's blocks, (Σ |∂L/∂W|^p)^(1/p) over the windows, L a window's mean loss."""
    sums = [torch.zeros_like(layer.weight) for layer in linears(model)]
    for window in windows:
        model.zero_grad()
        model(input_ids=window[None], labels=window[None], use_cache=False).loss.backward()
        for total, layer in zip(sums, linears(model), strict=True):
            assert layer.weight.grad is not None
            total += layer.weight.grad.abs() ** p
    model.zero_grad()
    return [total.detach() ** (1 / p) for total in sums]
