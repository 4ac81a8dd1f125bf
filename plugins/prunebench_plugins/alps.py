"""ALPS: improved optimisation for highly sparse one-shot pruning (Meng et al., arXiv 2406.07831)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Hessian, Sparsity, Target, calibrated

DAMPING = 0.01
CHECK_EVERY = 3
EARLIEST_STOP, FEW = 30, 0.0003
RHO_MIN, RHO_MAX = 1e-4, 1e6


@dataclass(frozen=True)
class ALPS:
    """Find the pattern by ADMM with a growing penalty, then solve for the weights on it.

    Args:
        rho: the penalty ρ that ADMM starts with.
        iterations: of ADMM, at most; it ends when the pattern has settled.
        steps: of conjugate gradients on the pattern found.
    """

    rho: float = 0.1
    iterations: int = 300
    steps: int = 10

    def __post_init__(self) -> None:
        if not RHO_MIN <= self.rho <= RHO_MAX:
            raise ValueError(f"rho {self.rho} is outside {RHO_MIN} to {RHO_MAX}: give a penalty, as 0.1")
        if self.iterations < 1:
            raise ValueError(f"iterations {self.iterations} is below 1: give a count, as 300")
        if self.steps < 0:
            raise ValueError(f"steps {self.steps} is negative: give a count, as 10; 0 leaves ADMM's weights")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        for layer, problem, target in calibrated(model, data, sparsity, Problem):
            W = layer.weight.float() * problem.scale
            D, support = alps(W, problem, target, rho=self.rho, iterations=self.iterations)
            D = conjugate_gradients(W, D, support, problem.A, steps=self.steps)
            layer.weight.copy_(D / problem.scale)


class Problem(Hessian):
    """A layer's least-squares problem, scaled to a unit diagonal; decomposed once for all layers of the same input."""

    @cached_property
    def scale(self) -> Tensor:
        """diag(H)^½ + 1e-8, fp32 (in,)."""
        return self.matrix.diagonal().sqrt() + 1e-8

    @cached_property
    def A(self) -> Tensor:  # noqa: N802
        """The scaled Hessian with damping, fp32 (in, in)."""
        A: Tensor = self.matrix / self.scale / self.scale[:, None]
        A.diagonal().add_(DAMPING * A.diagonal().mean())
        return A

    @cached_property
    def eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues λ (in,) and eigenvectors Q (in, in) of A = QΛQᵀ, fp32."""
        values, Q = torch.linalg.eigh(self.A)
        return values, Q


def alps(W: Tensor, problem: Problem, target: Target, *, rho: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Algorithm 1 of the paper: ADMM for min ‖X(W − D)ᵀ‖² over D in the pattern, its weights B kept apart from D.

    B = (A + ρI)⁻¹(AW − V + ρD), D = the pattern's projection of B + V/ρ, V += ρ(B − D). With V = ρU, and D + U always
    equal to the point that was projected, one matrix T holds both: D = T on the support, U = T off it. B is computed
    in the eigenbasis, where ρ may change for nothing.

    Args:
        W: scaled weights, fp32 (out, in).
        problem: of the layer.
        target: the zeros asked for; chosen by |B + V/ρ| over the whole matrix.
        rho: ρ to start with.
        iterations: at most.

    Returns:
        D, fp32 (out, in), and its support, boolean (out, in).
    """
    values, Q = problem.eigen
    AW = (W @ Q) * values  # in the eigenbasis
    D, U = W, torch.zeros_like(W)
    checked = start = target.mask(W.abs())
    moved = False
    for step in range(1, iterations + 1):
        B = ((AW + rho * (D - U) @ Q) / (values + rho)) @ Q.t()
        T = B + U
        support = target.mask(T.abs())
        D = T * support
        U = T - D
        if step % CHECK_EVERY:
            continue
        changed = int((support ^ checked).count_nonzero())
        share = changed / max(int(support.count_nonzero()), 1)
        checked = support
        if not changed and not moved and rho > RHO_MIN:
            rho, D, U, checked = rho / 5, W, torch.zeros_like(W), start
            continue
        if not changed or (step >= EARLIEST_STOP and share < FEW):
            break
        moved = True
        larger = min(rho * (1.3 if share > 0.1 else 1.2 if share > 0.005 else 1.1), RHO_MAX)
        U *= rho / larger
        rho = larger
    return D, support


def conjugate_gradients(W: Tensor, D: Tensor, support: Tensor, A: Tensor, *, steps: int) -> Tensor:
    """Algorithm 2 of the paper: min tr((W − D)A(W − D)ᵀ) over D on ``support``, all rows at once."""
    R = ((W - D) @ A) * support
    P = R
    squared = R.square().sum(dim=1, keepdim=True)
    for _ in range(steps):
        AP = P @ A
        step = torch.where(squared > 0, squared / (P * AP).sum(dim=1, keepdim=True), 0)
        D = D + step * P
        R = R - step * (AP * support)
        before, squared = squared, R.square().sum(dim=1, keepdim=True)
        P = R + torch.where(before > 0, squared / before, 0) * P
    return D
