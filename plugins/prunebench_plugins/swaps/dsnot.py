"""DSnoT: the rule of Dynamic Sparse no Training (Zhang et al., arXiv 2310.08915)."""

import torch
from torch import Tensor

from prunebench.pruning import FeatureMoments

THRESHOLD = 0.1 / 2048  # the authors': 0.1 in the sum over a window of 2048 tokens


def dsnot(W: Tensor, V: Tensor, moments: FeatureMoments, group: int | None, swaps: int) -> Tensor:
    """Let weights grow and go in turn, so that the mean of what each row lacks comes nearer to zero.

    With ε = Σ W_ij·x̄_j over the pruned weights of row i: the pruned weight grows whose W_ij·x̄_j / Var(x_j) has the sign
    of ε and is the largest; of the kept ones whose W_ij·x̄_j has the other sign, the one with the smallest |W_ij|·‖x_j‖
    goes. With groups it is the smallest of the group in which one grew, and a row ends before ε changes its sign. No
    weight moves twice. A row ends where |ε| is small or nothing is left to move.

    Args:
        W: the dense model's weights, fp32 (out, in).
        V: the sparse model's, fp32 (out, in); zero is pruned.
        moments: x̄, Var(x) and ‖x‖ of the inputs.
        group: exchange within so many consecutive columns only; None for the whole row.
        swaps: at most so many in each row.

    Returns:
        The refined weights, fp32 (out, in), with as many zeros in each row, or group, as before.
    """
    V, rows = V.clone(), torch.arange(len(W), device=W.device)
    columns = torch.arange(W.shape[1], device=W.device) // (group or W.shape[1])
    given, size = W * moments.mean, W.abs() * moments.norm
    growing = given / moments.variance.clamp(min=torch.finfo(W.dtype).tiny)
    kept, error = V != 0, given.masked_fill(V != 0, 0).sum(dim=1)
    may_grow, may_go, active = ~kept & (W != 0), kept.clone(), torch.ones_like(error, dtype=torch.bool)
    first = error.sign()
    for _ in range(swaps):
        sign = error.sign()[:, None]
        value, u = (growing * sign).masked_fill(~may_grow, -torch.inf).max(dim=1)
        fits = (columns == columns[u][:, None]) if group else given * sign < 0
        least, p = size.masked_fill(~(may_go & fits), torch.inf).min(dim=1)
        after = error + given[rows, p] - given[rows, u]
        active &= (
            (error.abs() > THRESHOLD) & (value > 0) & least.isfinite() & ((after.sign() == first) | (group is None))
        )
        if not active.any():
            break
        chosen = rows[active]
        V[chosen, u[active]], V[chosen, p[active]] = W[chosen, u[active]], 0
        may_grow[chosen, u[active]], may_go[chosen, p[active]] = False, False
        error = torch.where(active, after, error)
    return V
