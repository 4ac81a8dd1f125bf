"""MaskLLM (Fang et al., arXiv 2409.17481) by loops over the groups, and its training with torch's optimizer."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.oracles.training import linears


def all_masks(n: int, m: int) -> list[list[float]]:
    """Every way to keep n of m, found by counting."""
    words = [[float(number >> place & 1) for place in range(m)] for number in range(2**m)]
    return sorted((word for word in words if sum(word) == n), reverse=True)


def gumbel_mask(logits: list[float], noise: list[float], n: int, m: int, tau: float) -> list[float]:
    """The soft mask of one group: Σ y_i M_i with y_i = exp((π_i + g_i)/τ) / Σ_j exp((π_j + g_j)/τ)."""
    raised = [math.exp((pi + g) / tau) for pi, g in zip(logits, noise, strict=True)]
    return [
        sum(y / sum(raised) * mask[place] for y, mask in zip(raised, all_masks(n, m), strict=True))
        for place in range(m)
    ]


class SoftMask(nn.Module):
    """W ↦ W ⊙ M with M of a group from its logits; noise, τ and κ are set before each pass."""

    def __init__(self, gate: Tensor, n: int, m: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(gate.clone())
        self.masks = torch.tensor(all_masks(n, m))
        self.noise, self.tau, self.kappa = torch.zeros_like(gate), 1.0, 1.0

    def forward(self, W: Tensor) -> Tensor:
        y = torch.softmax((self.kappa * self.gate + self.noise) / self.tau, dim=1)
        return W * (y @ self.masks).reshape(W.shape)


def maskllm_textbook(
    model: Any, batches: list[Tensor], gates: list[Tensor], noise: list[list[Tensor]], *, lr: float, reward: float,
    temperature: tuple[float, float], scale: tuple[float, float], pattern: tuple[int, int],
) -> list[Tensor]:  # fmt: skip
    """Train the logits of every matrix of a LLaMA's blocks; its weights are left as they are.

    Returns:
        The trained logits, in the order of the matrices.
    """
    modules = [SoftMask(gate, *pattern) for gate in gates]
    for layer, module in zip(list(linears(model)), modules, strict=True):
        layer.requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", module)
    trained = [module.gate for module in modules]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    for t, batch in enumerate(batches):
        share = t / len(batches)
        for module, g in zip(modules, noise[t], strict=True):
            module.noise = g
            module.tau = temperature[0] + (temperature[1] - temperature[0]) * share
            module.kappa = scale[0] + (scale[1] - scale[0]) * share
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * share)) / 2
        optimizer.zero_grad()
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss = loss - (1 - share) * reward * sum(layer.weight.square().sum() for layer in linears(model))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    return [gate.detach() for gate in trained]
