"""What evaluations of plugins measure."""

from typing import TYPE_CHECKING, Any

import torch

from prunebench.registry.entry_points import load_evaluation, make_method

if TYPE_CHECKING:
    from prunebench.suite.cell import CellMeasure


@torch.no_grad()
def measure(wanted: "CellMeasure", model: Any, tokenizer: Any) -> dict[str, float]:
    """Named numbers, as a plugin's evaluation finds them.

    Raises:
        MethodError: the evaluation is not installed, or refuses its options.
    """
    found = make_method(load_evaluation(wanted.name), wanted.options).measure(model, tokenizer)
    return {str(name): float(value) for name, value in dict(found).items()}
