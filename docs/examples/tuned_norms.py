"""Recovery by the norms alone: they learn what the dense model predicts."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Sparsity, distillation_loss, fit, note


@dataclass(frozen=True)
class TunedNorms:
    """Train the vectors of a sparse model (norms, biases) on the dense model's predictions.

    Args:
        steps: of AdamW.
        lr: learning rate of the first step.
        batch_size: windows a step.
    """

    changes: ClassVar[str] = "all"
    mask: ClassVar[str] = "held"
    after: ClassVar[bool] = True

    steps: int = 256
    lr: float = 1e-3
    batch_size: int = 8

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Leave every matrix as the method before has made it."""
        vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
        if not vectors:
            return note("there are no norms or biases to train")

        def loss(step: int):
            return distillation_loss(model, data.teacher, next(data.batches(self.batch_size, step)))

        fit(loss, vectors, steps=self.steps, lr=self.lr, model=model)
