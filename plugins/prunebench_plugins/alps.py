"""ALPS: improved optimisation for highly sparse one-shot pruning (Meng et al., arXiv 2406.07831)."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Hessian, Sparsity, Target, account, calibrated, damped_cholesky

DAMPING = 0.01
CHECK_EVERY = 3
LITTLE = 0.005
EARLIEST_STOP, FEW = 31, 0.0003  # the first check from there on is that of iteration 33
RHO_MIN, RHO_MAX = 1e-4, 1e6

Damping = Literal["first", "last"]
Start = Literal["projected", "dense"]


@dataclass(frozen=True)
class ALPS:
    """Find the pattern by ADMM with a growing penalty, then solve for the weights on it.

    Args:
        rho: the penalty ρ that ADMM starts with.
        iterations: of ADMM, at most; it ends when the pattern has settled.
        steps: of conjugate gradients on the pattern found.
        damping: when a hundredth of the diagonal's mean is added to it: first, before H is scaled, as the authors do;
            last, after it, when all inputs get the same.
        start: what ADMM starts from: projected, the dense weights on the pattern, as the authors do, or dense.
    """

    revision: ClassVar[int] = 2
    cites: ClassVar[tuple[str, ...]] = ("2406.07831",)

    rho: float = 0.1
    iterations: int = 300
    steps: int = 10
    damping: Damping = "first"
    start: Start = "projected"

    def __post_init__(self) -> None:
        if not RHO_MIN <= self.rho <= RHO_MAX:
            raise ValueError(f"rho {self.rho} is outside {RHO_MIN} to {RHO_MAX}: give a penalty, as 0.1")
        if self.iterations < 1:
            raise ValueError(f"iterations {self.iterations} is below 1: give a count, as 300")
        if self.steps < 0:
            raise ValueError(f"steps {self.steps} is negative: give a count, as 10; 0 leaves ADMM's weights")
        for name, kind in (("damping", Damping), ("start", Start)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown: valid: {', '.join(get_args(kind))}")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        kind = Problem if self.damping == "first" else DampedLast
        for layer, problem, target in calibrated(model, data, sparsity, kind):
            W = layer.weight.float() * problem.scale
            D, support = alps(W, problem, target, rho=self.rho, iterations=self.iterations, start=self.start)
            D = conjugate_gradients(W, D, support, problem.A, steps=self.steps)
            pruned = D / problem.scale
            account(layer_error={layer.name: problem.output_error(layer.weight.float(), pruned)})
            layer.weight.copy_(pruned)


class Problem(Hessian):
    """A layer's least-squares problem, damped and scaled to a unit diagonal; set up once for all with the same input.

    Damping comes first, so that it weighs on inputs by their size: those that carry little are damped more.
    """

    @cached_property
    def damped(self) -> Tensor:
        """H + 0.01 · mean(diag H) · I, fp32 (in, in)."""
        H: Tensor = self.matrix.clone()
        H.diagonal().add_(DAMPING * H.diagonal().mean())
        return H

    @cached_property
    def scale(self) -> Tensor:
        """Root of the damped diagonal + 1e-8, fp32 (in,)."""
        return self.damped.diagonal().sqrt() + 1e-8

    @cached_property
    def A(self) -> Tensor:  # noqa: N802
        """The damped Hessian, scaled, fp32 (in, in)."""
        return self.damped / self.scale / self.scale[:, None]

    def factor_with(self, rho: float) -> Tensor:
        """Lower Cholesky factor of A + ρI, fp32 (in, in)."""
        shifted = self.A.clone()
        shifted.diagonal().add_(rho)
        return damped_cholesky(shifted, 0.0, self.name)


class DampedLast(Problem):
    """The same with the damping after the scaling."""

    @cached_property
    def scale(self) -> Tensor:
        """Root of the diagonal + 1e-8, fp32 (in,)."""
        return self.matrix.diagonal().sqrt() + 1e-8

    @cached_property
    def A(self) -> Tensor:  # noqa: N802
        """The scaled Hessian, damped, fp32 (in, in)."""
        A: Tensor = self.matrix / self.scale / self.scale[:, None]
        A.diagonal().add_(DAMPING * A.diagonal().mean())
        return A


def alps(
    W: Tensor, problem: Problem, target: Target, *, rho: float, iterations: int, start: Start = "projected"
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 of the paper: ADMM for min ‖X(W − D)ᵀ‖² over D in the pattern, with weights B apart from D.

    B = (A + ρI)⁻¹(AW − V + ρD); D = B + V/ρ on its highest entries; V += ρ(B − D). Here with U = V/ρ, and B as
    W + ρ(A + ρI)⁻¹(D − U − W), which is the same without rounding: what is solved for is small. When ρ changes, and
    when the run ends, is the released code's rule.

    ρ changes at every third iterate at most. The paper decomposes A once and multiplies by its eigenvectors; a
    Cholesky factor for each ρ costs n³/3 and solves in 2mn², where the eigenbasis takes 4mn² for each iterate: less
    for any layer of more rows than a twentieth of its inputs, and on a device, where eigenvectors are dear, for all.

    Args:
        W: scaled weights, fp32 (out, in).
        problem: of the layer.
        target: the zeros asked for; chosen by |B + V/ρ| over the whole matrix.
        rho: ρ to start with.
        iterations: at most.
        start: D and U start, and start again, as W on the pattern or W itself, and 0.

    Returns:
        The last B on its highest entries, fp32 (out, in), and its support, boolean (out, in).
    """
    L = problem.factor_with(rho)
    checked = target.mask(W.abs())  # the support at the last check
    first, no_dual = W * checked if start == "projected" else W, torch.zeros_like(W)
    D, U = first, no_dual
    count = max(int(checked.count_nonzero()), 1)  # of kept weights
    moved = False  # more than 0.5 % of the support, at any check so far
    for step in range(1, iterations + 1):
        B = W + torch.cholesky_solve((D - U - W).mul_(rho).t(), L).t()
        point = B + U
        support = target.mask(point.abs())
        D = point * support
        U = point - D
        if step % CHECK_EVERY:
            continue
        changed = int((support ^ checked).count_nonzero())
        checked, share = support, changed / count
        moved = moved or share > LITTLE
        if moved and not changed:
            break
        new = min(rho * growth(share), RHO_MAX) if moved else rho / 5
        rho, U = new, U * (rho / new)
        if changed and not moved:  # ρ is too large to move anything: start again with the smaller one
            B, D, U = W, first, no_dual
        if step >= EARLIEST_STOP and share < FEW:
            break
        L = problem.factor_with(rho)
    support = target.mask(B.abs())
    return B * support, support


def growth(share: float) -> float:
    """How much ρ grows after a check that found ``share`` of the kept weights changed: the authors' steps."""
    return 1.3 if share > 0.1 else 1.2 if share > LITTLE else 1.1


def conjugate_gradients(W: Tensor, D: Tensor, support: Tensor, A: Tensor, *, steps: int) -> Tensor:
    """Algorithm 2 of the paper: min tr((W − D)A(W − D)ᵀ) over D on ``support``, all rows at once, a step size for each.

    Args:
        W: scaled weights, fp32 (out, in).
        D: where to start from, fp32 (out, in), zero off the support.
        support: boolean (out, in).
        A: fp32 (in, in).
        steps: of conjugate gradients.

    Returns:
        D after the steps, fp32 (out, in).
    """
    R = ((W - D) @ A) * support
    P, squared = R, inner(R, R)
    for _ in range(steps):
        AP = (P @ A).mul_(support)
        size = quotient(squared, inner(P, AP))
        D = torch.addcmul(D, P, size)
        R = torch.addcmul(R, AP, size, value=-1)
        before, squared = squared, inner(R, R)
        P = torch.addcmul(R, P, quotient(squared, before))
    return D


def inner(one: Tensor, other: Tensor) -> Tensor:
    """Inner product of each row with its like, (rows, 1)."""
    return (one * other).sum(dim=1, keepdim=True)


def quotient(over: Tensor, under: Tensor) -> Tensor:
    """over / under, and 0 where a row is solved and nothing is left to divide by."""
    return torch.where(under > 0, over / under, 0)
