"""Gradual magnitude pruning: zeros are added while the model trains (Zhu and Gupta, arXiv 1710.01878)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Sparsity, fit, language_loss, prunable


@dataclass(frozen=True)
class GMP:
    """Train the model; every few steps the smallest weights of each matrix are pruned, and stay so.

    Steps and batch are those of ELSA's recipe, so that the defaults of both push as many tokens.

    Args:
        steps: of AdamW.
        lr: learning rate of the first step; it falls linearly to 0.
        batch_size: windows a step, drawn with replacement from the whole calibration text.
        interval: Δt, steps between two prunings.
        ramp: share of the steps until the final sparsity is reached; the rest trains with the mask fixed.
        only: prunable, the pruned matrices alone are trained: embeddings, head, norms and biases stay; by default all
            parameters are.
        grad_checkpointing: recompute the blocks' activations in the backward pass, to save memory.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("1710.01878",)
    changes: ClassVar[str] = "all"

    steps: int = 4096
    lr: float = 2e-4
    batch_size: int = 8
    interval: int = 32
    ramp: float = 0.5
    only: Literal["prunable", None] = None
    grad_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1: give a whole number from 1 up")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr {self.lr} is not positive: give a finite number above 0, as 0.001")
        if not 0 < self.ramp <= 1 or int(self.ramp * self.steps) < self.interval:
            raise ValueError(
                f"a ramp of {self.ramp} of {self.steps} steps holds no interval of {self.interval}: give a share up to "
                "1, as 0.5, and a shorter interval or more steps"
            )

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Train by the language loss of one random batch a step."""
        layers = list(prunable(model, sparsity))
        held = {layer.parameter: torch.ones_like(layer.parameter, dtype=torch.bool) for layer, _ in layers}
        prunings = int(self.ramp * self.steps) // self.interval  # n

        def prune(step: int) -> None:
            k, rest = divmod(step + 1, self.interval)
            if rest == 0 and k <= prunings:
                for layer, target in layers:
                    kept = target.ramped(ramped_share(k, prunings)).mask(layer.weight.abs())
                    layer.view(held[layer.parameter]).copy_(kept)

        fit(
            lambda step: language_loss(model, next(data.batches(self.batch_size, step))),
            model.parameters() if self.only is None else held,
            steps=self.steps,
            lr=self.lr,
            model=model,
            held=held,
            after=prune,
            grad_checkpointing=self.grad_checkpointing,
        )


def ramped_share(k: int, n: int) -> float:
    """The share of the final sparsity at the k-th of n prunings, equation 1 with s_i = 0: 1 − (1 − k/n)³."""
    return 1 - (1 - k / n) ** 3
