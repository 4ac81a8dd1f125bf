"""SAFE: finding sparse and flat minima (Lee, Lee, Chung and Lee, ICML 2025, arXiv 2506.06866)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import Block, CalibrationData, FeatureNorm, Sparsity, Target, blocks, fit


@dataclass(frozen=True)
class SAFE:
    """Train each block by sharpness-aware ADMM to its dense outputs, then project its matrices onto the pattern.

    Adam with betas 0.9 and 0.95 steps along the gradient of the squared error at the worst point near by, and of
    λ/2·‖W − Z + U‖². The learning rate rises in a fifteenth of the steps and then falls linearly to 0.

    Args:
        epochs: passes over the calibration windows for each block.
        lr: learning rate after the warm-up.
        rho: ρ, how far away the worst point is.
        lmda: λ, the penalty on the distance from the pattern.
        interval: steps between two updates of Z and U.
        activation: project by |W_ij|·‖X_j‖₂ in place of |W_ij|, which is SAFE+.
    """

    revision: ClassVar[int] = 1
    cites: ClassVar[tuple[str, ...]] = ("2506.06866",)

    epochs: int = 30
    lr: float = 2e-4
    rho: float = 2e-4
    lmda: float = 1e-3
    interval: int = 32
    activation: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.interval < 1:
            raise ValueError(f"epochs {self.epochs}, interval {self.interval}: give counts, as 30 and 32")
        if not 0 < self.lr < float("inf") or min(self.rho, self.lmda) < 0:
            raise ValueError(f"lr {self.lr}, rho {self.rho}, lmda {self.lmda}: give numbers above 0, as 2e-4")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Go block by block; the inputs are what the blocks before have become."""
        for block in blocks(model, data, sparsity):
            norms = block.statistics(FeatureNorm) if self.activation else {}
            self.train(block, norms)
            for layer, target in block.layers:
                layer.weight.copy_(projected(layer.weight, target, norms.get(layer.name)))

    def train(self, block: Block, norms: Mapping[str, FeatureNorm]) -> None:
        """Sharpness-aware ADMM on the matrices of one block, by the error of its outputs."""
        targets, module, T = block.targets, block.module, self.epochs * len(block)
        trained = list(dict.fromkeys(layer.parameter for layer, _ in block.layers))
        Z = {layer.name: projected(layer.weight.float(), t, norms.get(layer.name)) for layer, t in block.layers}
        U = {name: torch.zeros_like(z) for name, z in Z.items()}

        def error(step: int, weights: Mapping[str, Tensor]) -> Tensor:
            batch = step % len(block)
            return (block.run(batch, weights).float() - targets[batch].float()).square().mean()

        def loss(step: int) -> Tensor:
            W = {layer.name: layer.view(layer.parameter) for layer, _ in block.layers}
            G = torch.autograd.grad(error(step, W), list(W.values()), materialize_grads=True)
            scale = self.rho / (torch.stack([g.norm() for g in G]).norm() + 1e-12)
            worst = {name: w + scale * g for (name, w), g in zip(W.items(), G, strict=True)}
            penalty = torch.stack([(w - Z[name] + U[name]).square().sum() for name, w in W.items()]).sum()
            return error(step, worst) + self.lmda / 2 * penalty

        def update(step: int) -> None:
            if (step + 1) % self.interval == 0:
                for layer, target in block.layers:
                    W, z, u = layer.weight, Z[layer.name], U[layer.name]
                    z.copy_(projected(W + u, target, norms.get(layer.name)))
                    u.add_(W - z)

        ZU = [*Z.values(), *U.values()]
        fit(loss, trained, steps=T, lr=self.lr, warmup=T // 15, max_norm=None, model=module, after=update, state=ZU)


def projected(W: Tensor, target: Target, norm: FeatureNorm | None) -> Tensor:
    """The nearest matrix with the target's zeros, (out, in); with columns weighed by ``norm`` where it is given."""
    return W * target.mask(W.abs() if norm is None else W.abs() * norm.value)
