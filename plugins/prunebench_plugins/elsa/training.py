"""Training of a whole language model: fp32 master weights, its loss and gradient, activation checkpointing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from prunebench.pruning import decoder_blocks, note


@contextmanager
def trainable(model: nn.Module, *, grad_checkpointing: bool) -> Iterator[list[nn.Parameter]]:
    """Make all parameters trainable as fp32 masters within this context; eval mode, so that there is no dropout.

    A parameter of another dtype holds an fp32 copy of itself, which is rounded once at the end. It stays the same
    ``nn.Parameter``, so tied heads stay tied. Frozen parameters are trained like the others. Dtypes, ``requires_grad``,
    gradients and modes are restored at the end.

    Args:
        model: a causal language model.
        grad_checkpointing: recompute each decoder block in the backward pass instead of keeping its activations.

    Yields:
        The floating-point parameters, each once.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    original = [(parameter.dtype, parameter.requires_grad, parameter.grad) for parameter in parameters]
    modes = [(module, module.training) for module in model.modules()]
    if not all(required for _, required, _ in original):
        note("frozen parameters are trained all the same")
    blocks = list(decoder_blocks(model)) if grad_checkpointing else []
    forwards = [block.__dict__.get("forward") for block in blocks]
    try:
        model.eval()
        for parameter in parameters:
            parameter.grad = None
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        # transformers' own checkpointing is off in eval mode.
        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        yield parameters
    finally:
        for block, forward in zip(blocks, forwards, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:
                block.forward = forward
        for parameter, (dtype, required, grad) in zip(parameters, original, strict=True):
            parameter.grad = None
            parameter.data = parameter.data.to(dtype)
            parameter.grad = grad
            parameter.requires_grad_(required)
        for module, training in modes:
            module.training = training


def task_gradient(
    model: nn.Module, batches: Callable[[int], Iterator[Tensor]], grad_accumulation: int
) -> Callable[[int], Tensor]:
    """f's gradient for ``elsa``: the mean next-token cross-entropy of the whole model over one effective batch.

    Args:
        model: returns logits; bf16 autocast on CUDA.
        batches: called with a micro-batch's number from 0, iterates over LongTensors (batch, seqlen) from that one on.
        grad_accumulation: micro-batches a step.

    Returns:
        A function of the step's number that adds to the gradients and returns the loss, fp32 scalar.
    """
    device = next(model.parameters()).device

    def gradient(t: int) -> Tensor:
        total = torch.zeros((), device=device)
        for ids in islice(batches(t * grad_accumulation), grad_accumulation):
            loss = next_token_loss(model, ids.to(device)) / grad_accumulation
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    return gradient


def reconstruction_gradient(x: Tensor, H: Tensor) -> Callable[[int], Tensor]:
    """Instead of ``task_gradient`` for one matrix alone: ½·tr((x − W)H(x − W)ᵀ), the surrogate of layer-wise methods.

    Args:
        x: the trained matrix, fp32 (out, in); W is what it holds now.
        H: XᵀX / tokens of its inputs, fp32 (in, in).
    """
    W = x.detach().clone()

    def gradient(_: int) -> Tensor:
        moved = x.detach() - W
        x.grad = moved @ H
        return (moved * x.grad).sum() / 2

    return gradient


def next_token_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean cross-entropy of all seqlen − 1 predictions of every window, softmax in fp32; ids (batch, seqlen)."""
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=ids.is_cuda):
        output: Any = model(input_ids=ids, use_cache=False)
    logits: Tensor = output.logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
