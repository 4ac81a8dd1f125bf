"""The walk over a model's blocks as a textbook would write it, for LLaMAs."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn


class _Caught(Exception):  # noqa: N818 - no error
    pass


@torch.no_grad()
def walk_textbook(
    model: Any, windows: Tensor, moment: Callable[[Tensor], Tensor], prune: Callable[[Tensor, Tensor], Tensor]
) -> None:
    """Prune every linear matrix of a LLaMA's blocks with ``prune(W, mean)``.

    ``mean`` is the mean over tokens of ``moment(X)``, a sum over the rows of X (tokens, in). One sample a call, a
    statistic for each layer, two whole forwards a block, two buffers.
    """
    inputs: list[Tensor] = []
    arguments: list[dict[str, Any]] = []

    def catch(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        inputs.append(args[0])
        arguments.append(kwargs)
        raise _Caught

    blocks = model.model.layers
    handle = blocks[0].register_forward_pre_hook(catch, with_kwargs=True)
    for window in windows:
        with suppress(_Caught):
            model(input_ids=window[None], use_cache=False)
    handle.remove()
    outputs = [torch.zeros_like(hidden) for hidden in inputs]
    for block in blocks:
        layers = [module for module in block.modules() if isinstance(module, nn.Linear)]
        sums: dict[nn.Module, Tensor] = {}

        def see(
            module: nn.Module, args: tuple[Tensor, ...], output: Tensor, sums: dict[nn.Module, Tensor] = sums
        ) -> None:
            seen = moment(args[0].reshape(-1, args[0].shape[-1]))
            sums[module] = sums[module] + seen if module in sums else seen

        handles = [layer.register_forward_hook(see) for layer in layers]
        for j, hidden in enumerate(inputs):
            outputs[j] = _call(block, hidden, arguments[j])
        for handle in handles:
            handle.remove()
        for layer in layers:
            layer.weight.copy_(prune(layer.weight, sums[layer] / windows.numel()))
        for j, hidden in enumerate(inputs):
            outputs[j] = _call(block, hidden, arguments[j])
        inputs, outputs = outputs, inputs


def _call(block: nn.Module, hidden: Tensor, arguments: dict[str, Any]) -> Tensor:
    output = block(hidden, **arguments)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result
