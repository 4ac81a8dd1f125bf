"""Gradual magnitude pruning and masked low-rank adapters, as their papers' formulas say, for LLaMAs."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def linears(model: Any) -> Iterator[nn.Linear]:
    """The matrices of a LLaMA's blocks."""
    return (module for module in model.model.layers.modules() if isinstance(module, nn.Linear))


def gmp_textbook(
    model: Any, batches: list[Tensor], *, lr: float, sparsity: float, interval: int, prunings: int
) -> list[float]:
    """Zhu and Gupta, arXiv 1710.01878: at t = kΔt prune each matrix to s_t = s_f − s_f(1 − t/(nΔt))³ by magnitude.

    Returns:
        The share of zeros after each step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    masks = {layer: torch.ones_like(layer.weight) for layer in linears(model)}
    shares = []
    for t, batch in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - (t - 1) / len(batches))
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        for layer, mask in masks.items():
            assert layer.weight.grad is not None
            layer.weight.grad.mul_(mask)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for layer, mask in masks.items():
            layer.weight.data.mul_(mask)
            if t % interval == 0 and t <= prunings * interval:
                s = sparsity - sparsity * (1 - t / (prunings * interval)) ** 3
                zeros = int(s * layer.weight.numel() + 1e-6)
                order = layer.weight.data.abs().flatten().argsort()
                mask.view(-1)[order[:zeros]] = 0
                layer.weight.data.mul_(mask)
        zeros = sum(int((layer.weight == 0).sum()) for layer in masks)
        shares.append(zeros / sum(layer.weight.numel() for layer in masks))
    return shares


class MaskLoRA(nn.Module):
    """W ↦ W + s·M ⊙ (BA) as a parametrization of a layer, unmerged (Zimmer et al., arXiv 2312.15230)."""

    def __init__(self, W: Tensor, B: Tensor, A: Tensor, scale: float) -> None:
        super().__init__()
        self.mask, self.scale = (W != 0).float(), scale
        self.A, self.B = nn.Parameter(A.clone()), nn.Parameter(B.clone())

    def forward(self, W: Tensor) -> Tensor:
        return W + self.scale * self.mask * (self.B @ self.A)


def adapted_textbook(model: Any, adapters: list[tuple[Tensor, Tensor]], scale: float) -> list[MaskLoRA]:
    """Put an adapter beside each matrix of a LLaMA's blocks; they stay apart from the weights."""
    found = []
    for layer, (B, A) in zip(list(linears(model)), adapters, strict=True):
        module = MaskLoRA(layer.weight.detach(), B, A, scale)
        parametrize.register_parametrization(layer, "weight", module)
        found.append(module)
    return found
