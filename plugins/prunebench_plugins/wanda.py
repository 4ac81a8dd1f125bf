"""Wanda: pruning by weights and activations (Sun, Liu, Bair and Kolter, arXiv 2306.11695)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, FeatureNorm, Sparsity, calibrated


@dataclass(frozen=True)
class Wanda:
    """Keep the largest |W_ij|·‖X_j‖₂ of each row. No weight update.

    The paper floors the count in each row; here rows round so that the matrix holds the exact count.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("2306.11695",)

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        for layer, norm, target in calibrated(model, data, sparsity, FeatureNorm):
            scores = wanda_scores(layer.weight.float(), norm.value)
            layer.weight.masked_fill_(~target.mask(scores, per="row"), 0)


def wanda_scores(W: Tensor, norm: Tensor) -> Tensor:
    """Equation 1 of the paper.

    Args:
        W: weights, fp32 (out, in).
        norm: ‖X_j‖₂ of each input over the calibration tokens, fp32 (in,).

    Returns:
        |W_ij|·‖X_j‖₂, fp32 (out, in).
    """
    return W.abs() * norm
