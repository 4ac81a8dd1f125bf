"""Block-wise reconstruction of a sparse model (EBFT: Guo et al., arXiv 2402.12419)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import Block, CalibrationData, Sparsity, blocks, fit, masks


@dataclass(frozen=True)
class Reconstruct:
    """Fit the kept weights of each block, one after the other, to what the dense model's block gives; masks are held.

    By AdamW with betas 0.9 and 0.95, the learning rate falling linearly to 0, on the mean squared error.

    Args:
        epochs: passes over the calibration windows for each block; 0 leaves the model as it was.
        lr: learning rate of the first step.
        inputs: of the dense block, whose outputs are the targets: pruned, what the blocks before it have become give;
            dense, what the dense model's give, so that a block also makes up for the errors before it.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("2402.12419",)
    mask: ClassVar[str] = "held"
    after: ClassVar[bool] = True

    epochs: int = 10
    lr: float = 2e-4
    inputs: Literal["pruned", "dense"] = "pruned"

    def __post_init__(self) -> None:
        if self.epochs < 0 or not 0 < self.lr < float("inf"):
            raise ValueError(f"epochs {self.epochs}, lr {self.lr}: give a count and a number above 0, as 10 and 2e-4")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Go block by block; a block's own inputs are what the fitted blocks before it give."""
        for block in blocks(model, data, sparsity, dense=self.inputs == "dense", teacher=data.teacher):
            targets, held = block.targets, masks(layer.parameter for layer, _ in block.layers)

            def loss(step: int, block: Block = block, targets: Any = targets) -> Tensor:
                apart: Tensor = block.run(step % len(block)).float() - targets[step % len(block)].float()
                return apart.square().mean()

            fit(loss, held, steps=self.epochs * len(block), lr=self.lr, model=block.module, held=held)
