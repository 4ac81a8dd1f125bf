"""Pruning by magnitude, and fitting each block's kept weights to what the dense block gives."""

from dataclasses import dataclass

from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Sparsity, blocks, fit, masks


@dataclass(frozen=True)
class Refit:
    """Keep the largest weights; those of a block then learn the block's former outputs.

    Args:
        epochs: passes over the calibration windows, for each block.
        lr: learning rate of the first step.
    """

    epochs: int = 4
    lr: float = 1e-3

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Go block by block; the inputs are what the blocks before have become."""
        for block in blocks(model, data, sparsity):
            targets = block.targets  # before the first weight of the block is written
            for layer, target in block.layers:
                layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
            held = masks(layer.parameter for layer, _ in block.layers)

            def loss(step: int, block=block, targets=targets) -> Tensor:
                batch = step % len(block)
                return (block.run(batch).float() - targets[batch].float()).square().mean()

            fit(loss, held, steps=self.epochs * len(block), lr=self.lr, model=block.module, held=held)
