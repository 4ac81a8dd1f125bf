"""A model made trainable: fp32 master weights in the place of its parameters, and activation checkpointing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

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
    other parameters, which are multiplied with it, and those end as they were. Matrices of a model in bf16 go on being
    multiplied in bf16, by autocast: on a CPU as losses do on CUDA for every model. A parameter stays the same
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
    blocks = list(decoder_blocks(model)) if grad_checkpointing and model is not None else []
    forwards = [block.__dict__.get("forward") for block in blocks]
    chosen = set(map(id, trained))
    bf16 = any(parameter.dtype is torch.bfloat16 and parameter.device.type == "cpu" for parameter in own)
    try:
        if model is not None:
            model.eval()
        for parameter in everything:
            parameter.grad = None
            parameter.data = parameter.data.float()
            parameter.requires_grad_(id(parameter) in chosen)
        # transformers' own checkpointing is off in eval mode.
        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        # A cached copy of a weight would be that of an earlier step.
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False) if bf16 else nullcontext():
            yield trained
    finally:
        for block, forward in zip(blocks, forwards, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:
                block.forward = forward
        for parameter, (dtype, required, grad) in zip(everything, original, strict=True):
            parameter.grad = None
            parameter.data = parameter.data.to(dtype)
            parameter.grad = grad
            parameter.requires_grad_(required)
        for module, training in modes:
            module.training = training
