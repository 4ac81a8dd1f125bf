"""Muon: momentum with every singular value of the step made about one."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalised(G: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of a batch of matrices near one by Newton–Schulz iterations.

    Args:
        G: (batch, out, in).
        steps: iterations of X ← aX + (bA + cA²)X with A = XXᵀ.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = G.size(-2) > G.size(-1)
    X = G.mT if tall else G
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for matrices; of equal shapes all at once.

    Args:
        params: matrices (out, in).
        lr: rms of the step per entry is about 0.2 lr · √(max(out, in)) / √(max(out, in)), that is
            like Adam's step, so that the two can share a learning rate.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, same in shapes.items():
                updates = []
                for p in same:
                    m = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(m, group["momentum"]))
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                for p, update in zip(same, orthogonalised(torch.stack(updates)), strict=True):
                    p.sub_(update, alpha=scale)
