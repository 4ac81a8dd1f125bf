"""SparseSwaps: the masks of a sparse model, refined one exchange at a time (Zimmer et al., arXiv 2512.10922)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, FeatureMoments, Hessian, Sparsity, calibrated, prunable
from prunebench_plugins.swaps.dsnot import dsnot
from prunebench_plugins.swaps.exact import exact
from prunebench_plugins.swaps.order import refuse_reordered

RULES: dict[str, tuple[Any, Any]] = {"exact": (Hessian, exact), "dsnot": (FeatureMoments, dsnot)}


@dataclass(frozen=True)
class Swaps:
    """Exchange kept weights for pruned ones, each in its row, while that lowers the error of the layer's outputs.

    A weight that comes back has the dense model's value; what stays is left as the method before has made it.

    Args:
        swaps: at most so many in each row; 0 leaves the model as it was.
        rule: exact, the best exchange of all by the Gram matrix of the inputs; dsnot, the rule of Dynamic Sparse no
            Training, by means and variances of the inputs.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("2512.10922", "2310.08915")
    mask: ClassVar[str] = "moves"
    after: ClassVar[bool] = True

    swaps: int = 100
    rule: Literal["exact", "dsnot"] = "exact"

    def __post_init__(self) -> None:
        if self.swaps < 0:
            raise ValueError(f"swaps {self.swaps} is negative: give a count, as 100")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Refine block by block on the inputs that the refined blocks before it produce."""
        dense = {layer.name: layer for layer, _ in prunable(data.teacher, sparsity)}
        statistic, refined = RULES[self.rule]
        for layer, seen, target in calibrated(model, data, sparsity, statistic):
            W, V = dense[layer.name].weight.float(), layer.weight.float()
            refuse_reordered(W, V, layer.name)
            layer.weight.copy_(refined(W, V, seen, target.pattern.group, self.swaps))
