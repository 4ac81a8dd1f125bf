"""The trained tensors with their optimiser states: one Adam step, and for pruned matrices z, u and the projection.

An Adam step runs as one Triton kernel on CUDA where triton is installed, in plain torch elsewhere.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from prunebench.pruning import Target
from prunebench_plugins.elsa.adam import adam
from prunebench_plugins.elsa.states import Moments, Split

Projection = Literal["objective", "magnitude"]


class Variable:
    """A trained tensor and Adam's state for it.

    Args:
        x: fp32 leaf tensor that requires a gradient; changed in place.
        moments: m and v.
    """

    def __init__(self, x: Tensor, moments: Moments) -> None:
        self.x, self.moments = x, moments
        self.W = x.detach()

    def take_gradient(self) -> Tensor:
        """Detach the gradient from x, so that its memory is freed after the step; zeros if x was not used."""
        g, self.x.grad = self.x.grad, None
        return torch.zeros_like(self.W) if g is None else g

    def step(self, lmda: float, lr: float, t: int, clip: Tensor) -> None:
        """One Adam step.

        Args:
            lmda: λ; used by matrices that are pruned.
            lr: learning rate of this step.
            t: number of the step, from 1.
            clip: factor of the task gradient, fp32 scalar on its device.
        """
        g = self.take_gradient()
        if one_pass := fused(self.W, self.moments):
            one_pass(self.W, g, self.moments, lr, t, clip)
        else:
            adam(self.W, g.mul_(clip), self.moments, lr, t)

    def tensors(self) -> list[Tensor]:
        """The state that lasts from one step to the next, as stored."""
        return [self.W, *self.moments.tensors()]


class Stack:
    """The target of a tensor that holds one matrix, or several (all experts of a mixture), each with its own count.

    Args:
        parts: for each matrix its target, and a function that maps a tensor of x's shape to the view (out, in) of it.
    """

    def __init__(self, parts: Sequence[tuple[Target, Callable[[Tensor], Tensor]]]) -> None:
        self._parts = parts

    def mask(self, scores: Tensor) -> Tensor:
        """Select within each matrix separately; boolean in the shape of ``scores``, True = kept."""
        kept = torch.ones_like(scores, dtype=torch.bool)
        for target, view in self._parts:
            view(kept).copy_(target.mask(view(scores)))
        return kept


class Matrix(Variable):
    """A matrix to be pruned, or a stack of them: x with its split z and scaled dual u.

    Args:
        x, moments: see ``Variable``.
        split: z and u.
        target: number and pattern of the zeros; a ``Stack`` if x is not one matrix stored as (out, in).
        dtype: dtype to which x is rounded after the run.
    """

    def __init__(
        self,
        x: Tensor,
        moments: Moments,
        split: Split,
        target: Target | Stack,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(x, moments)
        self.split, self.target, self.dtype = split, target, dtype

    def start(self) -> None:
        """Set u = 0 and z = the magnitude projection of W at the final sparsity, as the authors do for either score."""
        kept = self.kept(self.W, "magnitude")
        self.split.update(self.W.masked_fill(~kept, 0), kept)

    def step(self, lmda: float, lr: float, t: int, clip: Tensor) -> None:
        """One Adam step on f(W) + λ/2·‖W − z + u‖²: m and v see both parts of the gradient, clipped and proximal."""
        g = self.take_gradient()
        if one_pass := fused(self.W, self.moments, self.split):
            one_pass(self.W, g, self.moments, lr, t, clip, lmda=lmda, split=self.split)
        else:
            g.mul_(clip).add_(self.split.residual(self.W).mul_(lmda))
            adam(self.W, g, self.moments, lr, t)

    def tensors(self) -> list[Tensor]:
        """The state that lasts from one step to the next, as stored."""
        return [*super().tensors(), *self.split.tensors()]

    def kept(self, y: Tensor, projection: Projection) -> Tensor:
        """The mask of Π(y), True = kept, with the exact number of zeros.

        ``objective`` keeps the largest v·y², without a square root: with v, the diagonal of the empirical Fisher, in
        place of the Hessian's diagonal, this minimises Σ v_i (z_i − y_i)² over the supports. Adam's bias correction is
        one factor for the whole matrix and does not change the order. ``magnitude`` keeps the largest |y|.
        """
        score = y.abs() if projection == "magnitude" else y.square().mul_(self.moments.v)
        return self.target.mask(score)

    def update(self, rescale: float, projection: Projection) -> Tensor:
        """Rescale u ← u·rescale, then z ← Π(W + u) and u ← u + W − z.

        Returns:
            See ``residuals``.
        """
        before = self.split.z
        y = self.split.u.mul_(rescale).add_(self.W)
        kept = self.kept(y, projection)
        self.split.update(y, kept)
        return self.residuals(self.split.z, before, kept, before)

    def finish(self, projection: Projection) -> Tensor:
        """W ← Π(W), with W rounded to its final dtype first, so that no kept weight rounds to zero. No retraining.

        Returns:
            As ``update``, for the last z: how far the projection moves W.
        """
        self.W.copy_(self.W.to(self.dtype))
        kept = self.kept(self.W, projection)
        residuals = self.residuals(z := self.split.z, self.W.masked_fill(~kept, 0), kept, z)
        self.W.masked_fill_(~kept, 0)
        return residuals

    def residuals(self, z: Tensor, before: Tensor, kept: Tensor, other: Tensor) -> Tensor:
        """How far z is from W and from what it was.

        Args:
            z, before: z, and what it is compared with, which is overwritten.
            kept, other: the new mask, True = kept, and the sparse tensor that had the old one.

        Returns:
            ‖W − z‖², ‖z − before‖², ‖W‖², the kept weights that were not kept before, and all kept ones; fp64 (5,).
        """
        counts = [((other == 0) & kept).count_nonzero(), kept.count_nonzero()]
        moved = before.sub_(z).norm() ** 2
        squares = [torch.sub(self.W, z, out=before).norm() ** 2, moved, self.W.norm() ** 2]
        return torch.stack([value.double() for value in (*squares, *counts)])


def fused(W: Tensor, moments: Moments, split: Split | None = None) -> Callable[..., None] | None:
    """The Triton kernel for this step, or None where the device or the states have none."""
    if not W.is_cuda:
        return None
    try:
        from prunebench_plugins.elsa.kernels import fused_adam, knows
    except ImportError:  # triton is not installed
        return None
    return fused_adam if knows(W, moments, split) else None
