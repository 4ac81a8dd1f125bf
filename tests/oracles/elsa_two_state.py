"""ELSA on one matrix with z and u in a tensor each, written down as the paper has it: every step makes new tensors."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Update:
    """What stood after one update of z and u."""

    step: int
    lmda: float
    W: Tensor
    z: Tensor
    u: Tensor


def lmda_at(schedule: str, a: float, b: float, t: int, T: int) -> float:
    return {
        "constant": lambda: b,
        "linear": lambda: a + (b - a) * (t / T),
        "cosine": lambda: a + (b - a) * (1 - math.cos(math.pi * (t / T))) / 2,
        "exponential": lambda: a * (b / a) ** (t / T),
    }[schedule]()


def project(y: Tensor, score: Tensor, keep: int, group: int | None) -> Tensor:
    """Keep the ``keep`` highest scores of the matrix, or of every ``group`` entries of a row."""
    rows = score.reshape(1, -1) if group is None else score.reshape(-1, group)
    order = rows.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(rows).scatter(1, order[:, :keep], 1.0).bool().reshape(y.shape)
    return torch.where(mask, y, torch.zeros_like(y))


def elsa_two_state(
    W: Tensor,
    gradient: Callable[[Tensor, int], Tensor],
    *,
    keep: int,
    group: int | None,
    steps: int,
    lr: float,
    schedule: str,
    a: float,
    b: float,
    interval: int,
    objective: bool,
) -> tuple[Tensor, list[Update]]:
    """The whole run; ``gradient(W, t)`` is ∇f before clipping. Returns the sparse weights and all updates."""
    m, v, u = torch.zeros_like(W), torch.zeros_like(W), torch.zeros_like(W)
    z = project(W, W.abs(), keep, group)
    lmda = lmda_prev = lmda_at(schedule, a, b, 0, steps)
    updates = []
    for t in range(steps):
        leaf = W.clone().requires_grad_()
        leaf.grad = gradient(W, t)
        torch.nn.utils.clip_grad_norm_([leaf], 1.0)
        g = leaf.grad + (W - z + u) * lmda
        m = m * 0.9 + g * (1 - 0.9)
        v = v * 0.95 + g * g * (1 - 0.95)
        rate = lr * (1 - t / steps)
        W = W - m / (v.sqrt() * (1 - 0.95 ** (t + 1)) ** -0.5 + 1e-8) * (rate / (1 - 0.9 ** (t + 1)))
        if t % interval == 0:
            if lmda != lmda_prev:
                u = u * (lmda_prev / lmda)
            y = W + u
            z = project(y, y * y * v if objective else y.abs(), keep, group)
            u = u + W - z
            updates.append(Update(t, lmda, W, z, u))
            lmda_prev, lmda = lmda, lmda_at(schedule, a, b, t, steps)
    return project(W, W * W * v if objective else W.abs(), keep, group), updates
