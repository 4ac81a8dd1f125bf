"""GBLM-Pruner: pruning by gradients and activations (Das, Sun, Ma and Shen, arXiv 2311.04902)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, FeatureNorm, Sparsity, calibrated, gradients


@dataclass(frozen=True)
class GBLM:
    """Keep the weights of each row that are large, on large inputs or with large gradients. No weight update.

    Args:
        alpha: weighs the gradients against the activations; 0 leaves them out, which is Wanda.
        norm: of a weight's gradients over the calibration windows: l2, the root of the sum of squares; l1, the sum of
            magnitudes.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("2311.04902",)

    alpha: float = 100.0
    norm: Literal["l2", "l1"] = "l2"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha {self.alpha} is negative or not finite: give a number from 0 up, as 100")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Take the gradients of the dense model, then prune block by block on the pruned blocks' outputs."""
        N = data.nsamples
        sizes = gradients(model, data, sparsity, torch.square if self.norm == "l2" else torch.abs)
        for layer, features, target in calibrated(model, data, sparsity, FeatureNorm):
            G = (N * sizes[layer.name]).sqrt() if self.norm == "l2" else N * sizes[layer.name]
            scores = gblm_scores(layer.weight.float(), features.value / N**0.5, G, self.alpha)
            layer.weight.masked_fill_(~target.mask(scores, per="row"), 0)


def gblm_scores(W: Tensor, norm: Tensor, G: Tensor, alpha: float) -> Tensor:
    """The pruning metric.

    Args:
        W: weights, fp32 (out, in).
        norm: ‖X_j‖₂ of each input, the root of its squares' sum over a window, averaged over windows; fp32 (in,).
        G: norm of the gradients of each weight over the windows, fp32 (out, in).
        alpha: α.

    Returns:
        |W_ij| · (α·G_ij + ‖X_j‖₂), fp32 (out, in).
    """
    return W.abs() * (alpha * G + norm)
