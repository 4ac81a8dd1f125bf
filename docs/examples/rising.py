"""Later layers get more zeros."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from prunebench.allocations.budget import sizes_of, spread
from prunebench.pruning import Pattern, Unstructured


@dataclass(frozen=True)
class Rising:
    """Sparsity rises linearly with the layer's place in the model.

    Args:
        slope: by how much, from the first layer to the last.
    """

    needs: ClassVar[str] = "shapes"

    slope: float = 0.1

    def __call__(self, model: Any, data: Any, pattern: Unstructured) -> Mapping[str, Pattern]:
        """A pattern for each layer, by name."""
        sizes = sizes_of(model)
        places = {name: place / (len(sizes) - 1) for place, name in enumerate(sizes)}
        return spread({name: pattern.ratio + self.slope * (places[name] - 0.5) for name in sizes}, sizes, pattern)
