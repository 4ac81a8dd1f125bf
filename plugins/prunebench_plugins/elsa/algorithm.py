"""The run: min f(x) subject to ‖x‖₀ ≤ k by ADMM on x = z, z sparse (arXiv 2510.01650, section 3 and algorithm 1).

    L(x, z, u) = f(x) + I_S(z) + λ/2·‖x − z + u‖² − λ/2·‖u‖²

x is minimised by K steps of Adam whose state lives for the whole run, z by a projection, u by its residual. Nothing
here knows of language models: ``gradient`` may be that of any function.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from prunebench.pruning import LossCurve, due, keep, kept, trace, track
from prunebench_plugins.elsa.schedules import learning_rate
from prunebench_plugins.elsa.variables import Matrix, Projection, Variable

MAX_NORM, CLIP_EPS = 1.0, 1e-6  # as torch's clip_grad_norm_


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
    loss_after: Callable[[], Tensor] | None = None,
    resume: bool = False,
) -> None:
    """Train all tensors on f while the penalty draws each matrix to its sparse z; project the matrices at the end.

    Args:
        matrices: tensors to be pruned.
        others: tensors to be trained without pruning.
        gradient: called with t = 0 … T−1, adds ∇f over the batch of step t to every ``x.grad`` and returns f's value;
            a resumed run starts at the step at which it was interrupted.
        steps: T.
        lr: learning rate of the first step; it falls linearly to 0.
        penalty: returns λ for the steps after the update at step t; ``penalty(0)`` also serves the first step.
        interval: K, steps between two updates of z and u.
        projection: which weights are kept, see ``Matrix.kept``.
        loss_after: f over the batch of the last step; called once, after the final projection, and traced.
        resume: save the state from time to time, and load what an interrupted run saved; at most one such run a cell.

    Raises:
        FloatingPointError: f or its gradient became infinite or NaN.
    """
    for matrix in matrices:
        matrix.start()
    lmda = lmda_of_u = penalty(0)
    monitor, first = _Monitor(lr), 0
    variables = [*others, *matrices]
    if resume and (facts := restore(variables)):
        first, lmda, lmda_of_u = facts["t"], facts["lmda"], facts["lmda_of_u"]
        monitor.restore(facts["seen"], variables[0].W.device)
    for t in track(range(first, steps), "step", start=first):
        if resume and due():
            facts = {"t": t, "lmda": lmda, "lmda_of_u": lmda_of_u, "seen": monitor.state()}
            keep("elsa", dict(states(variables)), facts)
        with torch.enable_grad():
            loss = gradient(t)
        # Only the task gradient is clipped: each variable's step scales it, then adds the proximal term.
        norm = get_total_norm([variable.x.grad for variable in variables if variable.x.grad is not None])
        clip = torch.clamp(MAX_NORM / (norm + CLIP_EPS), max=1.0)
        monitor.record(t, loss, norm)
        rate = learning_rate(lr, t, steps)
        for variable in variables:
            variable.step(lmda, rate, t + 1, clip.to(variable.W.device))
        if t % interval == 0:
            monitor.mean()  # raises where the loss is not finite
            # λu is the multiplier and stays; from λ = 0 this resets u.
            rescale = lmda_of_u / lmda if lmda != lmda_of_u else 1.0
            residuals = [matrix.update(rescale, projection) for matrix in matrices]
            monitor.report(t, residuals, lmda=lmda, lr=rate)
            lmda_of_u = lmda
            # As in the authors' code, the next K steps use the new λ with a u that is still scaled for the old one.
            lmda = penalty(t)
    monitor.mean()
    residuals = [matrix.finish(projection) for matrix in matrices]
    after = {} if loss_after is None else {"projected_loss": float(loss_after())}
    monitor.report(steps, residuals, lmda=lmda, lr=0.0, **after)


def states(variables: Sequence[Variable]) -> Iterator[tuple[str, Tensor]]:
    """The run's state as (name, tensor): of each variable W and Adam's moments, of a matrix also the split."""
    for index, variable in enumerate(variables):
        for part, tensor in enumerate(variable.tensors()):
            yield f"{index}.{part}", tensor


def restore(variables: Sequence[Variable]) -> dict[str, Any] | None:
    """Load the state that an interrupted run saved.

    Returns:
        The saved step, penalties and pending losses; None if nothing was saved.
    """
    if (saved := kept("elsa")) is None:
        return None
    stored, facts = saved
    for name, tensor in states(variables):
        tensor.copy_(stored[name])
    return facts


class _Monitor(LossCurve):
    """The curve of a run: its losses, and how far z is from W."""

    def report(self, t: int, residuals: list[Tensor], *, lmda: float, lr: float, **further: float) -> None:
        """Trace the mean loss since the last update, and over all matrices what ``Matrix.residuals`` counts.

        ``primal`` is ‖W − z‖/‖W‖, ``dual`` ‖z − z_before‖/‖W‖, ``mask_change`` the share of the kept weights that were
        not kept before.
        """
        *squares, entered, kept = torch.stack([r.double() for r in residuals]).sum(dim=0).tolist()
        primal, dual, size = (square**0.5 for square in squares)
        size = size or 1.0
        values = {"primal": primal / size, "dual": dual / size, "mask_change": entered / (kept or 1.0)}
        trace(t, loss=self.mean(), **values, lmda=lmda, lr=lr, **further)
