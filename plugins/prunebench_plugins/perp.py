"""PERP: retraining few parameters of a sparse model (Zimmer, Andoni, Spiegel and Pokutta, arXiv 2312.15230)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Layer, Sparsity, fit, language_loss, prunable

PARTS = ("adapters", "biases", "norms")


@dataclass(frozen=True)
class PERP:
    """Retrain masked low-rank adapters, biases and norms; the adapters are merged into the kept weights at the end.

    AdamW, its learning rate rising in a tenth of the steps and then falling linearly to 0, as the authors'.

    Args:
        steps: of AdamW.
        lr: learning rate after the warm-up.
        batch_size: windows a step, drawn with replacement from the whole calibration text.
        rank: r, of the adapters.
        alpha: the adapters' product is scaled by alpha/r.
        parts: what is trained, of adapters, biases and norms.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("2312.15230",)
    changes: ClassVar[str] = "all"
    mask: ClassVar[str] = "held"
    after: ClassVar[bool] = True

    steps: int = 1000
    lr: float = 5e-4
    batch_size: int = 2
    rank: int = 16
    alpha: float = 32.0
    parts: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.batch_size, self.rank) < 1:
            raise ValueError(
                f"steps {self.steps}, batch_size {self.batch_size}, rank {self.rank}: give counts, as 1000, 2 and 16"
            )
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr {self.lr} is not positive: give a finite number above 0, as 0.001")
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"parts {list(self.parts)} are unknown: give some of {', '.join(PARTS)}")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Train by the language loss of one random batch a step, then merge."""
        layers = [layer for layer, _ in prunable(model, sparsity)] if "adapters" in self.parts else []
        small = small_parameters(model, self.parts)
        if not layers and not small:
            raise ValueError(f"the model has no {' and no '.join(self.parts)} to train: give other parts")
        generator = torch.Generator().manual_seed(data.seed)
        adapters = {layer.name: lora(layer, self.rank, generator) for layer in layers}
        scale = self.alpha / self.rank
        fit(
            lambda step: language_loss(
                model, next(data.batches(self.batch_size, step)), adapted(layers, adapters, scale)
            ),
            [*(part for pair in adapters.values() for part in pair), *small],
            steps=self.steps,
            lr=self.lr,
            warmup=self.steps // 10,
            betas=(0.9, 0.999),
            model=model,
        )
        merged = adapted(layers, adapters, scale)
        for layer in layers:
            layer.weight.copy_(merged[layer.name].detach())


def lora(layer: Layer, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """B = 0, fp32 (out, rank), and A uniform in ±1/√in, fp32 (rank, in), as LoRA's authors begin."""
    (rows, columns), device = layer.shape, layer.parameter.device
    uniform = torch.rand(rank, columns, generator=generator)
    return torch.zeros(rows, rank, device=device), ((2 * uniform - 1) / columns**0.5).to(device)


def adapted(layers: list[Layer], adapters: Mapping[str, tuple[Tensor, Tensor]], scale: float) -> dict[str, Tensor]:
    """MaskLoRA: W + scale·M ⊙ (BA) by layer name, fp32 (out, in); M is where W is not zero."""
    found = {}
    for layer in layers:
        (B, A), W = adapters[layer.name], layer.weight.float()
        found[layer.name] = W + scale * (B @ A) * (W != 0)
    return found


def small_parameters(model: nn.Module, parts: tuple[str, ...]) -> list[Tensor]:
    """Biases and the weights of norms, where ``parts`` name them: vectors, and what is called a bias."""
    found: list[Tensor] = []
    for name, parameter in model.named_parameters():
        kind = "biases" if name.endswith("bias") else "norms" if parameter.dim() == 1 else None
        found += [parameter] if kind in parts else []
    return found
