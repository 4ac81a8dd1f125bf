"""The run: min f(x) subject to ‖x‖₀ ≤ k by ADMM on x = z, z sparse (arXiv 2510.01650, section 3 and algorithm 1).

    L(x, z, u) = f(x) + I_S(z) + λ/2·‖x − z + u‖² − λ/2·‖u‖²

x is minimised by K steps of Adam whose state lives for the whole run, z by a projection, u by its residual. Nothing
here knows of language models: ``gradient`` may be that of any function.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from prunebench.pruning import due, keep, kept, trace, track
from prunebench_plugins.elsa.schedules import learning_rate
from prunebench_plugins.elsa.variables import Matrix, Projection, Variable

MAX_NORM = 1.0


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
