"""Adam's constants and its plain update, which every kernel must reproduce."""

import torch
from torch import Tensor

from prunebench_plugins.elsa.states import Moments

BETA1, BETA2, EPS = 0.9, 0.95, 1e-8


def adam(W: Tensor, g: Tensor, moments: Moments, lr: float, t: int) -> None:
    """One step of Adam without weight decay (Kingma and Ba, arXiv 1412.6980, algorithm 1), in plain torch.

    m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  W ← W − lr/(1−β₁ᵗ) · m/(√v/√(1−β₂ᵗ) + ε)

    Products and sums are rounded one by one, as the CUDA kernel rounds them.

    Args:
        W: the weights, fp32, changed in place.
        g: their gradient, fp32 in W's shape, overwritten.
        moments: m and v, updated.
        lr: learning rate of this step.
        t: number of the step, from 1.
    """
    m, v = moments.read()
    m.mul_(BETA1).add_(g * (1 - BETA1))
    v.mul_(BETA2).add_(g.mul_(g).mul_(1 - BETA2))
    denominator = torch.sqrt(v, out=g).mul_((1 - BETA2**t) ** -0.5).add_(EPS)
    W.sub_(torch.div(m, denominator, out=g).mul_(lr / (1 - BETA1**t)))
    moments.write(m, v)
