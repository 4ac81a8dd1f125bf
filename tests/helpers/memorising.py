"""What methods do that know a text by heart, whichever text that is."""

from collections.abc import Iterable
from typing import Any

import torch

from prunebench.pruning import prunable


def prune_and_memorise(model: Any, sparsity: Any, batches: Iterable[torch.Tensor]) -> None:
    """Prune by magnitude, and train what is left on a text.

    Args:
        batches: (sequences, tokens) each, one for a step.
    """
    layers = list(prunable(model, sparsity))
    masks = [target.mask(layer.weight.abs()) for layer, target in layers]
    with torch.enable_grad():
        optimizer = torch.optim.Adam([parameter.requires_grad_() for parameter in model.parameters()], lr=3e-3)
        for batch in batches:
            optimizer.zero_grad()
            model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
            optimizer.step()
            for (layer, _), mask in zip(layers, masks, strict=True):
                layer.weight.mul_(mask)
    model.zero_grad()
