"""Magnitude pruning: the smallest weights of each matrix are set to zero."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from prunebench import hookimpl
from prunebench.pruning import Sparsity, prunable


@dataclass(frozen=True)
class Magnitude:
    """Keep the largest |W| of each matrix. Needs no data."""

    revision: ClassVar[int] = 1

    @hookimpl
    def prune(self, model: nn.Module, sparsity: Sparsity) -> None:
        """Prune each matrix by itself, without an update of the kept weights."""
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
