"""Training: AdamW on fp32 master weights, masks that hold, and a loop that resumes bit for bit."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from prunebench.pruning.callbacks import active_callbacks, trace, track
from prunebench.pruning.loss_curve import LossCurve
from prunebench.pruning.losses import mixed_precision
from prunebench.pruning.masters import trainable
from prunebench.pruning.resume import due, forget, keep, kept

Decay = Literal["linear", "cosine", "constant"]
CLIP_EPS = 1e-6  # as torch's clip_grad_norm_
ADAM_EPS = 1e-8
TRACED = 16  # steps whose losses are averaged to one point of the curve: to read one makes the CPU wait for the GPU


def fit(
    loss: Callable[[int], Tensor],
    parameters: Iterable[Tensor],
    *,
    steps: int,
    lr: float,
    model: nn.Module | None = None,
    held: Mapping[Tensor, Tensor] | Mapping[nn.Parameter, Tensor] | None = None,
    after: Callable[[int], None] | None = None,
    state: Iterable[Tensor] = (),
    warmup: int = 0,
    decay: Decay = "linear",
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.0,
    max_norm: float | None = 1.0,
    grad_checkpointing: bool = False,
    name: str = "",
) -> None:
    """Minimise ``loss`` by AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2), in place.

    Weights of less than 32 bits are trained as fp32 copies that take their place, and rounded once at the end: in bf16
    a step smaller than 1/256 of a weight would be lost. Progress is reported and the mean loss of every 16 steps
    traced. A run that is interrupted resumes where it was last saved and ends with the same bits; for that ``loss`` and
    ``after`` may depend on nothing but their argument, the parameters, the masks and ``state``.

    Args:
        loss: called with the step t = 0 … steps − 1, returns a scalar; on CUDA within bf16 autocast.
        parameters: what is trained: parameters of ``model``, or tensors of one's own that require no gradient.
        steps: how many; 0 changes nothing.
        lr: learning rate after the warm-up.
        model: the module that ``loss`` runs, a model or ``block.module``; needed where it has parameters of less than
            32 bits. All its parameters are fp32 meanwhile, and it is in eval mode, so without dropout.
        held: by parameter, a boolean mask in its shape, True = kept. What is not kept is set to zero and stays exactly
            zero; its gradient does not count for the clipping.
        after: called with t after each step; may change masks in place, which are then applied.
        state: tensors that ``after`` changes in place, such as dual variables; saved with the run.
        warmup: steps in which the learning rate rises linearly to ``lr``.
        decay: of the learning rate after that: linear or cosine to 0, or constant.
        betas: β₁ and β₂.
        weight_decay: of all parameters, decoupled.
        max_norm: the gradient's global norm is clipped to it; None for no clipping.
        grad_checkpointing: recompute the model's decoder blocks in the backward pass, to save memory.
        name: tells apart runs of one method that start alike, as on tensors of one's own that begin as zeros in every
            block: give each another, as the block's number. Those of other weights, masks or settings need none.

    Raises:
        ValueError: steps, lr, warmup or decay make no sense, or a mask is not of its parameter's shape.
        RuntimeError: the model's blocks lie on disk.
        FloatingPointError: the loss or its gradient became infinite or NaN.
    """
    parameters, held_masks = list(parameters), dict[Tensor, Tensor](list(held.items()) if held else [])
    _check(parameters, steps, lr, warmup, decay, held_masks)
    if steps == 0:
        return
    with trainable(model, parameters, grad_checkpointing=grad_checkpointing):
        run = _Run(parameters, held_masks, betas, weight_decay, state)
        curve, first, place = LossCurve(lr), 0, parameters[0].device
        start = [*parameters, *held_masks.values(), *(model.parameters() if model is not None else ())]
        settings = (steps, lr, warmup, decay, betas, weight_decay, max_norm)
        key = f"fit {name} {digest_of(start, *settings)}"
        _apply(held_masks)
        if saved := kept(key):
            first = run.restore(*saved)
            curve.restore(saved[1]["curve"], place)
        for t in track(range(first, steps), "step", start=first):
            if due():
                keep(key, run.tensors(), {"t": t, "curve": curve.state()})
            with torch.enable_grad(), mixed_precision(place):
                value = loss(t)
                value.backward()  # type: ignore[no-untyped-call]
            rate = learning_rate(lr, t, steps, warmup=warmup, decay=decay)
            curve.record(t, value, run.step(rate, max_norm))
            _apply(held_masks)
            if after is not None:
                after(t)
                _apply(held_masks)
            if (t + 1) % TRACED == 0 or t + 1 == steps:
                trace(t, loss=curve.mean(), lr=rate)
        forget(key)


def _check(
    parameters: list[Tensor], steps: int, lr: float, warmup: int, decay: str, held: Mapping[Tensor, Tensor]
) -> None:
    if not parameters:
        raise ValueError("there are no parameters to train: give at least one")
    if steps < 0:
        raise ValueError(f"steps {steps} is negative: give a count, as 512")
    if not 0 < lr < float("inf"):
        raise ValueError(f"lr {lr} is not positive: give a finite number above 0, as 0.001")
    if not 0 <= warmup <= steps:
        raise ValueError(f"warmup {warmup} is outside 0 to {steps}, the steps of the run")
    if decay not in get_args(Decay):
        raise ValueError(f"decay {decay!r} is unknown: valid: {', '.join(get_args(Decay))}")
    for parameter, mask in held.items():
        if mask.dtype is not torch.bool or mask.shape != parameter.shape:
            raise ValueError(
                f"a mask of {mask.dtype} {tuple(mask.shape)} for a parameter {tuple(parameter.shape)}: give a boolean "
                "one of the same shape, as masks(parameters) does"
            )


def masks(parameters: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """The masks that parameters have now, for ``fit(..., held=...)``.

    Args:
        parameters: such as ``layer.parameter`` of each layer of ``prunable``; one that is named twice counts once.

    Returns:
        By parameter, a boolean tensor in its shape, True where it is not zero.
    """
    return {parameter: parameter.detach() != 0 for parameter in parameters}


@torch.no_grad()
def _apply(held: Mapping[Tensor, Tensor]) -> None:
    for parameter, mask in held.items():
        parameter.masked_fill_(~mask, 0)


def learning_rate(lr: float, step: int, steps: int, *, warmup: int = 0, decay: Decay = "linear") -> float:
    """The learning rate of one step: a linear warm-up to ``lr``, then ``decay``."""
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / (steps - warmup)
    return lr * {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}[decay]


class _Run:
    """The state of one run: weights, AdamW's moments, masks.

    Args:
        parameters: fp32, changed in place.
        held: masks by parameter.
        betas, weight_decay: of AdamW.
        state: other tensors that last from one step to the next.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        held: Mapping[Tensor, Tensor],
        betas: tuple[float, float],
        weight_decay: float,
        state: Iterable[Tensor],
    ) -> None:
        self._parameters, self._held, self._betas, self._weight_decay = parameters, held, betas, weight_decay
        self._state = list(state)
        self._m, self._v = ([torch.zeros_like(p, requires_grad=False) for p in parameters] for _ in range(2))
        self._t = 0

    @torch.no_grad()
    def step(self, lr: float, max_norm: float | None) -> Tensor:
        """One step of AdamW by the gradients that are there, which are freed; returns their global norm."""
        for parameter, mask in self._held.items():
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~mask, 0)
        gradients = [parameter.grad for parameter in self._parameters]
        norm = get_total_norm([gradient for gradient in gradients if gradient is not None])
        clip = torch.ones_like(norm) if max_norm is None else torch.clamp(max_norm / (norm + CLIP_EPS), max=1.0)
        self._t += 1
        (beta1, beta2), t = self._betas, self._t
        for parameter, g, m, v in zip(self._parameters, gradients, self._m, self._v, strict=True):
            g = torch.zeros_like(m) if g is None else g.mul_(clip.to(g.device))
            parameter.grad = None
            m.mul_(beta1).add_(g, alpha=1 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            if self._weight_decay:
                parameter.mul_(1 - lr * self._weight_decay)
            denominator = torch.sqrt(v, out=g).mul_((1 - beta2**t) ** -0.5).add_(ADAM_EPS)
            parameter.addcdiv_(m, denominator, value=-lr / (1 - beta1**t))
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """All that lasts from one step to the next, by name."""
        parts = {"W": self._parameters, "m": self._m, "v": self._v, "mask": list(self._held.values())}
        parts["state"] = self._state
        return {f"{part}.{index}": t.detach() for part, members in parts.items() for index, t in enumerate(members)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> int:
        """Go back to a saved state; returns the step that comes next."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self._t = facts["t"]
        return self._t


def digest_of(tensors: Iterable[Tensor], *settings: object) -> str:
    """A text that differs between runs that start from other tensors or settings, to name their states by.

    Empty where no states are saved.
    """
    if active_callbacks().checkpointer is None:
        return ""
    facts = [(tuple(p.shape), float(p.detach().sum(dtype=torch.float64))) for p in tensors]
    return hashlib.sha256(repr((facts, settings)).encode()).hexdigest()[:16]
