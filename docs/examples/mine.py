"""Pruning by a weight's shares in its row and its column, and by its input."""

from dataclasses import dataclass

from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, FeatureNorm, Sparsity, calibrated


@dataclass(frozen=True)
class Mine:
    """Keep the weights that are large in their row and their column, on inputs that are large. No update.

    Args:
        power: what the norm of an input is raised to; 0 leaves the inputs out.
    """

    power: float = 0.5

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        for layer, norm, target in calibrated(model, data, sparsity, FeatureNorm):
            scores = relative_importance(layer.weight.float()) * norm.value**self.power
            layer.weight.masked_fill_(~target.mask(scores), 0)


def relative_importance(W: Tensor) -> Tensor:
    """|W_ij| / Σ_j |W_ij| + |W_ij| / Σ_i |W_ij|, (out, in)."""
    size = W.abs()
    return size / size.sum(dim=1, keepdim=True) + size / size.sum(dim=0)
