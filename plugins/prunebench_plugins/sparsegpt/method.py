"""SparseGPT as a method: its options, the contract, the hook."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Hessian, Sparsity, calibrated
from prunebench_plugins.sparsegpt.algorithm import sparsegpt


@dataclass(frozen=True)
class SparseGPT:
    """Prune column by column; each column's error is made up for by the columns to its right.

    Args:
        percdamp: damping of the Hessian as a share of its mean diagonal.
        blocksize: columns whose mask is chosen together, and whose updates to the rest are applied together.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("2301.00774",)

    percdamp: float = 0.01
    blocksize: int = 128

    def __post_init__(self) -> None:
        if self.percdamp < 0:
            raise ValueError(f"percdamp {self.percdamp} is negative: give a share of the mean diagonal, as 0.01")
        if self.blocksize < 1:
            raise ValueError(f"blocksize {self.blocksize} is below 1: give a number of columns, as 128")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        for layer, H, target in calibrated(model, data, sparsity, Hessian):
            U = H.factor(self.percdamp)
            layer.weight.copy_(sparsegpt(layer.weight.float(), U, target, dead=H.dead, blocksize=self.blocksize))
