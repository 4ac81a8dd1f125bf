"""A model made trainable: fp32 master weights in the place of its parameters, and activation checkpointing."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from prunebench.pruning.callbacks import note
from prunebench.pruning.layers import decoder_blocks
from prunebench.pruning.offload import store_of


@contextmanager
def trainable(
    model: nn.Module | None, parameters: Iterable[Tensor] | None = None, *, grad_checkpointing: bool = False
) -> Iterator[list[Tensor]]:
    """Make parameters trainable as fp32 masters within this context; eval mode, so that there is no dropout.

    A parameter of another dtype holds an fp32 copy of itself, which is rounded once at the end; so do the model's
    other parameters, which are multiplied with it, and those end as they were. On a CPU the forward pass of a model in
    bf16 goes on in bf16 (autocast), as losses have it on CUDA for every model. A parameter stays the same
    ``nn.Parameter``, so tied heads stay tied. Dtypes, ``requires_grad``, gradients and modes are restored at the end.
    For a loop of one's own; ``fit`` does this itself.

    Args:
        model: a causal language model, or one block of it; None where there is only ``parameters``.
        parameters: what is trained, frozen or not; all floating-point parameters of the model if None.
        grad_checkpointing: recompute each decoder block in the backward pass instead of keeping its activations.

    Yields:
        The trained parameters, each once.

    Raises:
        RuntimeError: the model's blocks lie on disk.
    """
    if model is not None and store_of(model) is not None:  # one block of it passes
        raise RuntimeError(
            "a model whose blocks lie on disk cannot be trained as a whole: use device cpu or cuda, or train block by "
            "block, as with blocks(model, data, sparsity)"
        )
    own = [] if model is None else [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    trained: list[Tensor] = list(dict.fromkeys(own if parameters is None else parameters))
    everything: list[Tensor] = list(dict.fromkeys([*own, *trained]))
    original = [(parameter.dtype, parameter.requires_grad, parameter.grad) for parameter in everything]
    modes = [] if model is None else [(module, module.training) for module in model.modules()]
    if parameters is None and not all(required for _, required, _ in original):
        note("frozen parameters are trained all the same")
    forwards = _forwards(model, own, grad_checkpointing)
    forwards_before = [module.__dict__.get("forward") for module, _ in forwards]
    chosen = set(map(id, trained))
    try:
        if model is not None:
            model.eval()
        for parameter in everything:
            parameter.grad = None
            parameter.data = parameter.data.float()
            parameter.requires_grad_(id(parameter) in chosen)
        for module, forward in forwards:
            module.forward = forward
        yield trained
    finally:
        for (module, _), before in zip(forwards, forwards_before, strict=True):
            module.__dict__.pop("forward", None)
            if before is not None:
                module.forward = before
        for parameter, (dtype, required, grad) in zip(everything, original, strict=True):
            parameter.grad = None
            parameter.data = parameter.data.to(dtype)
            parameter.grad = grad
            parameter.requires_grad_(required)
        for module, training in modes:
            module.training = training


def _forwards(
    model: nn.Module | None, parameters: Iterable[Tensor], grad_checkpointing: bool
) -> list[tuple[nn.Module, Callable[..., Any]]]:
    """Modules that run otherwise while they are trained, and how: with checkpoints, by products in bf16.

    Args:
        model: all of it.
        parameters: its own, before they become fp32.
        grad_checkpointing: recompute each decoder block; transformers' own way is off in eval mode.
    """
    if model is None:
        return []
    blocks = decoder_blocks(model) if grad_checkpointing else ()
    found: list[tuple[nn.Module, Callable[..., Any]]] = [
        (block, partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)) for block in blocks
    ]
    if any(parameter.dtype is torch.bfloat16 and parameter.device.type == "cpu" for parameter in parameters):
        found.append((model, torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)))
    return found
