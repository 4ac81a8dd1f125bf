"""The gradients that ELSA can follow: of a whole model's loss, or of one matrix's output error."""

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from prunebench.pruning import language_loss


class TaskGradient:
    """f's gradient for ``elsa``: the mean next-token cross-entropy of the whole model over one effective batch.

    Args:
        model: returns logits; bf16 autocast on CUDA.
        batches: called with a micro-batch's number from 0, iterates over LongTensors (batch, seqlen) from that one on.
        grad_accumulation: micro-batches a step.
    """

    def __init__(
        self, model: nn.Module, batches: Callable[[int], Iterator[Tensor]], grad_accumulation: int = 1
    ) -> None:
        self.model, self._batches, self._count = model, batches, grad_accumulation
        self._last: list[Tensor] = []

    def __call__(self, t: int) -> Tensor:
        """Add the gradient of step t to the parameters' and return the loss, fp32 scalar."""
        total = torch.zeros((), device=next(self.model.parameters()).device)
        self._last = list(islice(self._batches(t * self._count), self._count))
        for ids in self._last:
            loss = language_loss(self.model, ids) / self._count
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    @torch.no_grad()
    def loss_again(self) -> Tensor:
        """The loss over the last step's batch, with the weights as they are now; takes no further text."""
        return torch.stack([language_loss(self.model, ids) for ids in self._last]).mean()


def reconstruction_gradient(x: Tensor, H: Tensor) -> Callable[[int], Tensor]:
    """Instead of ``TaskGradient`` for one matrix alone: ½·tr((x − W)H(x − W)ᵀ), the surrogate of layer-wise methods.

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
