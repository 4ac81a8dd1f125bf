"""The run: min f(x) subject to ‖x‖₀ ≤ k by ADMM on x = z, z sparse (arXiv 2510.01650, section 3 and algorithm 1).

    L(x, z, u) = f(x) + I_S(z) + λ/2·‖x − z + u‖² − λ/2·‖u‖²

x is minimised by K steps of Adam whose state lives for the whole run, z by a projection, u by its residual. Nothing
here knows of language models: ``gradient`` may be that of any function.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from prunebench.pruning import Target, due, keep, kept, trace, track
from prunebench_plugins.elsa.schedules import learning_rate
from prunebench_plugins.elsa.states import Moments, Split

Projection = Literal["objective", "magnitude"]
BETA1, BETA2, EPS = 0.9, 0.95, 1e-8
MAX_NORM = 1.0


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
        """The gradient, which is freed when the caller is done with it; zeros where x was not used."""
        g, self.x.grad = self.x.grad, None
        return torch.zeros_like(self.W) if g is None else g

    def step(self, lmda: float, lr: float, t: int) -> None:
        """One Adam step; t counts from 1."""
        adam(self.W, self.take_gradient(), self.moments, lr, t)

    def tensors(self) -> list[Tensor]:
        """All that lasts from one step to the next, as it is stored."""
        return [self.W, *self.moments.tensors()]


class Stack:
    """The matrices that one tensor holds, each with its own zeros asked for: one, or those of a mixture's experts.

    Args:
        parts: of each matrix its target, and a function from a tensor of x's shape to this matrix, a view (out, in).
    """

    def __init__(self, parts: Sequence[tuple[Target, Callable[[Tensor], Tensor]]]) -> None:
        self._parts = parts

    def mask(self, scores: Tensor) -> Tensor:
        """True = kept; each matrix is selected from by itself."""
        kept = torch.ones_like(scores, dtype=torch.bool)
        for target, view in self._parts:
            view(kept).copy_(target.mask(view(scores)))
        return kept


class Matrix(Variable):
    """A matrix to be pruned, or a stack of them: x with its split z and scaled dual u.

    Args:
        x, moments: see ``Variable``.
        split: z and u.
        target: the zeros asked for; a ``Stack`` where x is not simply one matrix (out, in).
        dtype: what x will be rounded to after the run.
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
        """u = 0, and z = the magnitude projection of W at the final sparsity, whichever projection follows."""
        kept = self.kept(self.W, "magnitude")
        self.split.update(self.W.masked_fill(~kept, 0), kept)

    def step(self, lmda: float, lr: float, t: int) -> None:
        """One Adam step on f(W) + λ/2·‖W − z + u‖²: m and v see both parts of the gradient."""
        g = self.take_gradient()
        if one_pass := fused(self.W, self.moments, self.split):
            one_pass(self.W, g, self.moments, lr, t, lmda=lmda, split=self.split)
        else:
            g.add_(self.split.residual(self.W).mul_(lmda))
            adam(self.W, g, self.moments, lr, t)

    def tensors(self) -> list[Tensor]:
        """All that lasts from one step to the next, as it is stored."""
        return [*super().tensors(), *self.split.tensors()]

    def kept(self, y: Tensor, projection: Projection) -> Tensor:
        """The mask of Π(y), True = kept, exactly as many as asked for.

        ``objective``: the largest v·y², without a square root. With v, the diagonal of the empirical Fisher, for the
        Hessian's, they solve min over supports of Σ v_i (z_i − y_i)². Adam's bias correction is one factor for the
        whole matrix and changes no order. ``magnitude``: the largest |y|.
        """
        score = y.abs() if projection == "magnitude" else y.square().mul_(self.moments.v)
        return self.target.mask(score)

    def update(self, rescale: float, projection: Projection) -> Tensor:
        """z ← Π(W + u), u ← u + W − z, after u ← u·rescale.

        Returns:
            ‖W − z‖², ‖z − z_before‖² and ‖W‖², fp32 (3,).
        """
        before = self.split.z
        y = self.split.u.mul_(rescale).add_(self.W)
        self.split.update(y, self.kept(y, projection))
        return self.residuals(self.split.z, before)

    def finish(self, projection: Projection) -> Tensor:
        """W ← Π(W), with W as it will be rounded, so that no kept weight rounds to zero. No retraining.

        Returns:
            As ``update``, of the last z: how far the projection moves W.
        """
        self.W.copy_(self.W.to(self.dtype))
        kept = self.kept(self.W, projection)
        residuals = self.residuals(self.split.z, self.W.masked_fill(~kept, 0))
        self.W.masked_fill_(~kept, 0)
        return residuals

    def residuals(self, z: Tensor, before: Tensor) -> Tensor:
        """‖W − z‖², ‖z − z_before‖² and ‖W‖², fp32 (3,); overwrites ``before``."""
        moved = before.sub_(z).norm() ** 2
        return torch.stack([torch.sub(self.W, z, out=before).norm() ** 2, moved, self.W.norm() ** 2])


def adam(W: Tensor, g: Tensor, moments: Moments, lr: float, t: int) -> None:
    """One step of Adam without weight decay (Kingma and Ba, arXiv 1412.6980, algorithm 1); overwrites ``g``.

    m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  W ← W − lr/(1−β₁ᵗ) · m/(√v/√(1−β₂ᵗ) + ε)

    Products and sums are rounded one by one, as the CUDA kernel rounds them.
    """
    if one_pass := fused(W, moments):
        return one_pass(W, g, moments, lr, t)
    m, v = moments.read()
    m.mul_(BETA1).add_(g * (1 - BETA1))
    v.mul_(BETA2).add_(g.mul_(g).mul_(1 - BETA2))
    denominator = torch.sqrt(v, out=g).mul_((1 - BETA2**t) ** -0.5).add_(EPS)
    W.sub_(torch.div(m, denominator, out=g).mul_(lr / (1 - BETA1**t)))
    moments.write(m, v)


def fused(W: Tensor, moments: Moments, split: Split | None = None) -> Callable[..., None] | None:
    """The same step in one pass over memory, where there is a kernel for this device and these states."""
    if not W.is_cuda:
        return None
    try:
        from prunebench_plugins.elsa.kernels import fused_adam, knows
    except ImportError:  # triton is not installed
        return None
    return fused_adam if knows(W, moments, split) else None


@torch.no_grad()
def elsa(
    matrices: Sequence[Matrix],
    others: Sequence[Variable],
    gradient: Callable[[int], Tensor],
    *,
    steps: int,
    lr: float,
    penalty: Callable[[int], float],
    interval: int,
    projection: Projection = "objective",
    resume: bool = False,
) -> None:
    """Train all tensors on f, draw the matrices to their sparse z, and project them onto it at the end.

    Args:
        matrices: tensors to be pruned.
        others: tensors to be trained along.
        gradient: called with t = 0 … T−1, adds ∇f over the batch of step t to every ``x.grad`` and returns f's value;
            a run that goes on calls it first with the t at which it stood.
        steps: T.
        lr: the first step's learning rate, which falls linearly to 0.
        penalty: λ to be used after the update at step t; also, with t = 0, before the first.
        interval: K, steps between two updates of z and u.
        projection: which weights are kept, see ``Matrix.kept``.
        resume: whether its state is kept from time to time and an interrupted run goes on from it; for one run a cell.

    Raises:
        FloatingPointError: f or its gradient became infinite or NaN.
    """
    for matrix in matrices:
        matrix.start()
    lmda = lmda_of_u = penalty(0)
    watch, first = _Watch(lr), 0
    variables = [*others, *matrices]
    if resume and (facts := restore(variables)):
        first, lmda, lmda_of_u = facts["t"], facts["lmda"], facts["lmda_of_u"]
        watch.restore(facts["seen"], variables[0].W.device)
    for t in track(range(first, steps), "step", start=first):
        if resume and due():
            facts = {"t": t, "lmda": lmda, "lmda_of_u": lmda_of_u, "seen": watch.state()}
            keep("elsa", dict(states(variables)), facts)
        with torch.enable_grad():
            loss = gradient(t)
        # The task gradient alone is clipped: the proximal part is added after.
        norm = clip_grad_norm_([variable.x for variable in variables], MAX_NORM)
        watch.see(t, loss, norm)
        rate = learning_rate(lr, t, steps)
        for variable in variables:
            variable.step(lmda, rate, t + 1)
        if t % interval == 0:
            watch.check()
            # λu is the multiplier and stays; from λ = 0 this resets u.
            rescale = lmda_of_u / lmda if lmda != lmda_of_u else 1.0
            residuals = [matrix.update(rescale, projection) for matrix in matrices]
            watch.tell(t, residuals, lmda=lmda, lr=rate)
            lmda_of_u = lmda
            # The coming K steps meet the new λ with a u that is scaled for the old one: so the authors' code runs.
            lmda = penalty(t)
    watch.check()
    watch.tell(steps, [matrix.finish(projection) for matrix in matrices], lmda=lmda, lr=0.0)


def states(variables: Sequence[Variable]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that lasts, by a name: W, Adam's moments, and of a matrix the split."""
    for place, variable in enumerate(variables):
        for part, tensor in enumerate(variable.tensors()):
            yield f"{place}.{part}", tensor


def restore(variables: Sequence[Variable]) -> dict[str, Any] | None:
    """Make every tensor what an interrupted run kept of it; the facts beside them, None at a first attempt."""
    if (found := kept("elsa")) is None:
        return None
    stored, facts = found
    for name, held in states(variables):
        held.copy_(stored[name])
    return facts


class _Watch:
    """Losses since the last update, looked at only then: a look at each step would make a GPU wait."""

    def __init__(self, lr: float) -> None:
        self._lr = lr
        self._seen: list[tuple[int, Tensor, Tensor]] = []
        self._loss = float("nan")

    def see(self, t: int, loss: Tensor, norm: Tensor) -> None:
        self._seen.append((t, loss.detach(), norm))

    def check(self) -> None:
        if not self._seen:
            return
        values = torch.stack([torch.stack((loss, norm)).float() for _, loss, norm in self._seen]).tolist()
        for (t, _, _), (loss, norm) in zip(self._seen, values, strict=True):
            for what, value in (("loss", loss), ("norm of its gradient", norm)):
                if value - value != 0:
                    raise FloatingPointError(
                        f"the {what} is {value} at step {t}: try a smaller lr than {self._lr:g}, and see that the "
                        "dense model's loss on this text is finite"
                    )
        self._loss = sum(loss for loss, _ in values) / len(values)
        self._seen.clear()

    def state(self) -> list[tuple[int, float, float]]:
        """What was seen since the last look, as JSON, for ``restore``."""
        return [(t, float(loss), float(norm)) for t, loss, norm in self._seen]

    def restore(self, state: list[tuple[int, float, float]], device: torch.device) -> None:
        """Go on from what an interrupted run had seen."""
        self._seen = [
            (t, torch.tensor(loss, device=device), torch.tensor(norm, device=device)) for t, loss, norm in state
        ]

    def tell(self, t: int, residuals: list[Tensor], *, lmda: float, lr: float) -> None:
        """Loss (mean since the last update), primal ‖W − z‖/‖W‖ and dual ‖z − z_before‖/‖W‖ over all matrices."""
        primal, dual, size = torch.stack([r.double() for r in residuals]).sum(dim=0).sqrt().tolist()
        size = size or 1.0
        trace(t, loss=self._loss, primal=primal / size, dual=dual / size, lmda=lmda, lr=lr)
