"""Masked retraining: a sparse model is trained further while its zeros stay (Han et al., arXiv 1506.02626)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Sparsity, distillation_loss, fit, language_loss, masks, prunable


@dataclass(frozen=True)
class Retrain:
    """Train the kept weights of a model that another method has pruned; its masks are held.

    By AdamW with betas 0.9 and 0.95, without weight decay, the gradient's norm clipped to 1; the learning rate falls
    linearly to 0. Steps and batch are those of ELSA's recipe, so that the defaults of both push as many tokens.

    Args:
        steps: of AdamW; 0 leaves the model as the first method made it.
        lr: learning rate after the warm-up.
        batch_size: windows a step, drawn with replacement from the whole calibration text.
        warmup: share of the steps in which the learning rate rises to ``lr``.
        loss: language, the next-token loss; distillation, the divergence from the dense model's predictions.
        only: all, every parameter; prunable, the pruned matrices alone: embeddings, head, norms and biases stay.
        grad_checkpointing: recompute the blocks' activations in the backward pass, to save memory.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("1506.02626",)
    changes: ClassVar[str] = "all"
    mask: ClassVar[str] = "held"
    after: ClassVar[bool] = True
    control: ClassVar[bool] = True

    steps: int = 4096
    lr: float = 2e-4
    batch_size: int = 8
    warmup: float = 0.0
    loss: Literal["language", "distillation"] = "language"
    only: Literal["all", "prunable"] = "all"
    grad_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1:
            raise ValueError(f"steps {self.steps}, batch_size {self.batch_size}: give counts, as 512 and 8")
        if not (0 < self.lr < float("inf") and 0 <= self.warmup <= 1):
            raise ValueError(
                f"lr {self.lr}, warmup {self.warmup}: give a number above 0 and a share of the steps, as 0.001 and 0.1"
            )

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Train by the loss of one random batch a step."""
        held = masks(layer.parameter for layer, _ in prunable(model, sparsity))

        def loss(step: int) -> Tensor:
            tokens = next(data.batches(self.batch_size, step))
            if self.loss == "distillation":
                return distillation_loss(model, data.teacher, tokens)
            return language_loss(model, tokens)

        fit(
            loss,
            model.parameters() if self.only == "all" else held,
            steps=self.steps,
            lr=self.lr,
            warmup=int(self.warmup * self.steps),
            model=model,
            held=held,
            grad_checkpointing=self.grad_checkpointing,
        )
