"""How much of the weights' size is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class WeightNorm:
    """The mean norm of the model's matrices.

    Args:
        order: p of the ℓp norm.
    """

    order: float = 2.0

    def measure(self, model: Any, tokenizer: Any) -> Mapping[str, float]:
        """Named numbers of a pruned model."""
        norms = [p.float().norm(p=self.order).item() for p in model.parameters() if p.dim() == 2]
        return {"mean": sum(norms) / len(norms)}
