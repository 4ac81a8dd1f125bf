"""Layer-wise ADMM: fast and effective weight update for pruned large language models (Boža, arXiv 2401.02938)."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import (
    CalibrationData,
    Hessian,
    Sparsity,
    Target,
    Unstructured,
    account,
    calibrated,
    damped_cholesky,
)

DAMPING = 0.1
RHO = 1.0
CHOICES = 15


@dataclass(frozen=True)
class ADMM:
    """Alternate between the least-squares weights and their projection onto the pattern.

    Args:
        iterations: ADMM iterations of each layer.
        ramp: iterations in which the sparsity rises to the target by a cubic law. The mask is chosen anew in all of
            them, and in the first 15 at least. 0 is what the authors run: 15 choices at the full sparsity, but a ramp
            of 15 for n:m. 15 is the paper's text, for every pattern.
    """

    revision: ClassVar[int] = 2
    cites: ClassVar[tuple[str, ...]] = ("2401.02938",)

    iterations: int = 20
    ramp: int = 0

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations {self.iterations} is below 1: give a count, as 20")
        if not 0 <= self.ramp <= self.iterations:
            raise ValueError(f"ramp {self.ramp} is outside 0 to iterations ({self.iterations})")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        for layer, system, target in calibrated(model, data, sparsity, System):
            W = layer.weight.float()
            pruned = admm(W, system, target, iterations=self.iterations, ramp=self.ramp)
            account(layer_error={layer.name: system.output_error(W, pruned)})
            layer.weight.copy_(pruned)


class System(Hessian):
    """A layer's normal equations in scaled space, factorised once for all layers that see the same input."""

    @cached_property
    def scale(self) -> Tensor:
        """D = diag(H)^½ + 1e-8, fp32 (in,)."""
        return self.matrix.diagonal().sqrt() + 1e-8

    @cached_property
    def scaled(self) -> Tensor:
        """A = D⁻¹HD⁻¹ with damping, fp32 (in, in)."""
        A: Tensor = self.matrix / self.scale / self.scale[:, None]
        A.diagonal().add_(DAMPING * A.diagonal().mean())
        return A

    @cached_property
    def inverse_of_update(self) -> Tensor:
        """(A + ρI)⁻¹, fp32 (in, in), for all iterations and all layers; its condition is at most that of A / ρ."""
        shifted = self.scaled.clone()
        shifted.diagonal().add_(RHO)
        inverse: Tensor = torch.cholesky_inverse(damped_cholesky(shifted, 0.0, self.name))
        return inverse


def admm(W: Tensor, system: System, target: Target, *, iterations: int, ramp: int) -> Tensor:
    """Algorithm 1 of the paper, with its gradual pruning (section 4).

    The scaled dual U makes V + U the point that is projected; ρ = 1 serves all layers because the scaled problem has
    a unit diagonal. Matrices are (out, in), so the paper's products stand transposed.

    Args:
        W: weights, fp32 (out, in).
        system: statistic of the layer's inputs.
        target: the zeros asked for; chosen by |V + U| over the whole matrix, in scaled space.
        iterations: of ADMM.
        ramp: the first iterations, in which the sparsity rises; the mask is chosen anew in them and in the first
            ``CHOICES``. 0: none, but ``CHOICES`` for a pattern of groups, as in the released code.

    Returns:
        The pruned and updated weights, fp32 (out, in).
    """
    choices = min(max(ramp, CHOICES), iterations)
    rise = ramp or (choices if target.pattern.group else 0)
    V0 = W * system.scale
    AV0 = V0 @ system.scaled
    point = V0  # V + U
    for t in range(1, iterations + 1):
        if t <= choices:
            mask = partial_mask(point.abs(), target, 1 - (1 - t / rise) ** 3 if t < rise else 1.0)
        Z = point * mask
        U = point - Z
        # U + V in one pass, V = (A + ρI)⁻¹(AV₀ + ρ(Z − U))
        point = torch.addmm(U, torch.add(AV0, Z - U, alpha=RHO), system.inverse_of_update)
    return point * mask / system.scale


def partial_mask(scores: Tensor, target: Target, share: float) -> Tensor:
    """A mask with ``share`` of the target's zeros: the pattern's own mask, and the best of what that would prune.

    Args:
        scores: fp32 (out, in).
        target: the zeros asked for in the end.
        share: 0 to 1.

    Returns:
        Boolean (out, in), True = kept; n:m is reached at 1 only.
    """
    kept = target.mask(scores)
    if share == 1:
        return kept
    anywhere = Target.of(Unstructured(target.pattern.ratio), target.shape).ramped(share)
    return anywhere.mask(scores.masked_fill(kept, torch.inf))
