"""Methods that train in loops of their own, without the toolkit's help; a plugin file as ``--plugin`` takes it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from prunebench import hookimpl
from prunebench.pruning import prunable


@dataclass(frozen=True)
class OwnLoop:
    """Magnitude masks, held while the whole model is trained by SGD.

    Args:
        steps: number of steps.
        batch_size: windows in a step.
    """

    steps: int = 3
    batch_size: int = 2

    changes: ClassVar[str] = "all"

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        held = [(layer, target.mask(layer.weight.abs())) for layer, target in prunable(model, sparsity)]
        flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        for parameter, _ in flags:
            parameter.requires_grad_(True)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _, batch in zip(range(self.steps), data.batches(self.batch_size), strict=False):
            with torch.enable_grad():
                model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        for layer, mask in held:
            layer.weight.mul_(mask)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@dataclass(frozen=True)
class BlockLoop:
    """Magnitude masks; then each block of a LLaMA is fitted to the outputs of the dense block.

    Args:
        epochs: passes over the windows, for each block.
    """

    epochs: int = 2

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        masks = {layer.name: target.mask(layer.weight.abs()) for layer, target in prunable(model, sparsity)}
        with torch.no_grad():
            hidden = model.model.embed_tokens(data.windows)
            rotary = model.model.rotary_emb(hidden, torch.arange(data.seqlen)[None])
        for number, block in enumerate(model.model.layers):
            mine = [(layer, masks[layer.name]) for layer, _ in prunable(model, sparsity) if f".{number}." in layer.name]
            with torch.no_grad():
                dense = block(hidden, position_embeddings=rotary)
            for layer, mask in mine:
                layer.weight.mul_(mask)
            weights = [layer.parameter for layer, _ in mine]
            for _ in range(self.epochs):
                loss = (block(hidden, position_embeddings=rotary) - dense).pow(2).mean()
                gradients = torch.autograd.grad(loss, weights)
                with torch.no_grad():
                    for (layer, mask), weight, gradient in zip(mine, weights, gradients, strict=True):
                        weight.sub_(1e-3 * gradient)
                        layer.weight.mul_(mask)
            with torch.no_grad():
                hidden = block(hidden, position_embeddings=rotary)
