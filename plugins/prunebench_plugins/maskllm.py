"""MaskLLM: learnable semi-structured sparsity (Fang et al., NeurIPS 2024, arXiv 2409.17481)."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, FeatureNorm, Sparsity, calibrated, fit, language_loss

DEVIATION = 0.01  # of the logits to begin with


@dataclass(frozen=True)
class MaskLLM:
    """Learn which of the n:m masks each group of weights takes, by Gumbel softmax; the kept weights stay as they are.

    AdamW with betas 0.9 and 0.95 and weight decay 0.1 trains a logit for each mask of each group; the learning rate
    falls to 0 by a cosine.

    Args:
        steps: of AdamW; 0 leaves the masks that the prior and its noise begin with.
        lr: learning rate of the first step.
        batch_size: windows a step, drawn with replacement from the whole calibration text.
        temperature: τ of the softmax, in the first step and after the last; in between it falls linearly.
        scale: κ, what logits are multiplied by, in the first step and after the last.
        prior: α, how much more probable to begin with are masks like Wanda's; 0: all masks are alike.
        reward: λ, of the sum of squares of the kept weights, so that large ones are kept; it falls linearly to 0.
    """

    revision: ClassVar[int] = 2
    cites: ClassVar[tuple[str, ...]] = ("2409.17481",)
    patterns: ClassVar[tuple[str, ...]] = ("n:m",)

    steps: int = 2000
    lr: float = 5e-4
    batch_size: int = 256
    temperature: tuple[float, float] = (4.0, 0.05)
    scale: tuple[float, float] = (100.0, 500.0)
    prior: float = 3.0
    reward: float = 1e-5

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1:
            raise ValueError(f"steps {self.steps}, batch_size {self.batch_size}: give counts, as 2000 and 256")
        if not 0 < self.lr < float("inf") or self.temperature[0] <= 0 or min(*self.temperature, *self.scale) < 0:
            raise ValueError(f"lr {self.lr}, temperature {self.temperature}, scale {self.scale}: give numbers above 0")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Take Wanda's masks of the dense model for a prior, train the logits, keep the most probable masks."""
        layers, gates, masks, random = [], {}, {}, torch.Generator().manual_seed(data.seed)
        for layer, norm, target in calibrated(model, data, sparsity, FeatureNorm, resume=False):
            masks[layer.name] = choices = candidates(target.pattern.ratio, target.pattern.group or 1).to(norm.value)
            wanda = target.mask(layer.weight.float().abs() * norm.value).view(-1, choices.shape[1]).to(choices)
            alike = wanda @ choices.t()  # weights that both keep
            noise = torch.randn(alike.shape, generator=random).to(alike)
            gates[layer.name] = DEVIATION * (noise + self.prior * (alike - alike.mean(dim=1, keepdim=True)))
            layers.append(layer)

        def loss(step: int) -> Tensor:
            done, random = step / self.steps, torch.Generator().manual_seed(data.seed * 2**32 + step)
            tau, kappa = ((1 - done) * first + done * last for first, last in (self.temperature, self.scale))
            weights = {}
            for layer in layers:
                gate = gates[layer.name]
                gumbel = -torch.empty(gate.shape).exponential_(generator=random).log().to(gate)
                mask = sampled(kappa * gate + gumbel, masks[layer.name], tau).view(layer.shape)
                weights[layer.name] = layer.weight.float() * mask
            large = torch.stack([matrix.square().sum() for matrix in weights.values()]).sum()
            reward = (1 - done) * self.reward * large
            return language_loss(model, next(data.batches(self.batch_size, step)), weights) - reward

        if layers:
            fit(loss, gates.values(), steps=self.steps, lr=self.lr, decay="cosine", weight_decay=0.1, model=model)
        for layer in layers:
            layer.weight.mul_(sampled(gates[layer.name], masks[layer.name], 0.0).view(layer.shape))


def candidates(ratio: float, m: int) -> Tensor:
    """All masks of a group: 0 and 1, fp32 (masks, m), in the order of the indices that they keep."""
    kept = list(combinations(range(m), round(m * (1 - ratio))))
    return torch.zeros(len(kept), m).scatter_(1, torch.tensor(kept), 1.0)


def sampled(logits: Tensor, masks: Tensor, temperature: float) -> Tensor:
    """The mean of the masks of each group, weighed by the softmax of their logits.

    Args:
        logits: with Gumbel noise, for a sample; fp32 (groups, masks).
        masks: 0 and 1, fp32 (masks, m).
        temperature: τ; at 0 it is the mask of the highest logit, so n of m.

    Returns:
        fp32 (groups, m), between 0 and 1; bf16 within autocast, unless the temperature is 0.
    """
    if temperature == 0:
        return masks[logits.argmax(dim=1)]
    return (logits / temperature).softmax(dim=1) @ masks
