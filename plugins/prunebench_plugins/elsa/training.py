"""The gradients that ELSA can follow: of a whole model's loss, or of one matrix's output error."""

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from prunebench.pruning import language_loss


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
            loss = language_loss(model, ids) / grad_accumulation
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
