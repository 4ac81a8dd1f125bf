"""Pruning by the change of the loss that a first-order Taylor expansion foretells, then training what is left."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Sparsity, fit, gradients, language_loss, masks, prunable


@dataclass(frozen=True)
class Taylor:
    """Keep the weights with the largest |W|·|∂L/∂W| of each matrix, and train them.

    Args:
        steps: of AdamW; 0 only prunes.
        lr: learning rate of the first step.
        batch_size: windows a step.
    """

    changes: ClassVar[str] = "all"

    steps: int = 512
    lr: float = 1e-3
    batch_size: int = 8

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Score all matrices of the dense model, prune, train."""
        size = gradients(model, data, sparsity, torch.abs)
        for layer, target in prunable(model, sparsity):
            kept = target.mask(layer.weight.float().abs() * size[layer.name])
            layer.weight.masked_fill_(~kept, 0)
        fit(
            lambda step: language_loss(model, next(data.batches(self.batch_size, step))),
            model.parameters(),
            steps=self.steps,
            lr=self.lr,
            model=model,
            held=masks(layer.parameter for layer, _ in prunable(model, sparsity)),
        )
