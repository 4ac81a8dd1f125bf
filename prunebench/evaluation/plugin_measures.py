"""What evaluations of plugins measure."""

from collections.abc import Mapping
from typing import Any

import torch

from prunebench.registry.entry_points import load_evaluation
from prunebench.registry.method_class import make_method


@torch.no_grad()
def measure(name: str, options: Mapping[str, Any], model: Any, tokenizer: Any) -> dict[str, float]:
    """Named numbers, as a plugin's evaluation finds them.

    Raises:
        MethodError: the evaluation is not installed, or refuses its options.
    """
    found = make_method(load_evaluation(name), options).measure(model, tokenizer)
    return {str(name): float(value) for name, value in dict(found).items()}
