"""The exchange of a kept weight for a pruned one that lowers a layer's error most, again and again."""

import torch
from torch import Tensor

from prunebench.pruning import Hessian

PAIRS = 2**22  # of weights that are compared at once
TOLERANCE = 1e-6  # of a row's error: less than that is rounding


def exact(W: Tensor, V: Tensor, hessian: Hessian, group: int | None, swaps: int) -> Tensor:
    """The best exchanges of single weights, one after the other in each row.

    With r = w − v, what a row lacks, its error is rᵀHr. When v_p goes and w_u comes, it changes by
    2v_p(Hr)_p + v_p²H_pp − 2w_u(Hr)_u + w_u²H_uu − 2v_p·w_u·H_pu; the paper has masks of dense weights, v_p = w_p.

    Args:
        W: the dense model's weights, fp32 (out, in).
        V: the sparse model's, fp32 (out, in); zero is pruned.
        hessian: H = XᵀX / tokens of the inputs.
        group: exchange within so many consecutive columns only; None for the whole row.
        swaps: at most so many in each row.

    Returns:
        The refined weights, fp32 (out, in), with as many zeros in each row, or group, as before.
    """
    H = hessian.matrix
    columns = torch.arange(len(H), device=H.device) // (group or len(H))
    apart = torch.zeros_like(H).masked_fill_(columns != columns[:, None], torch.inf)
    V, rows_at_once = V.clone(), max(1, PAIRS // H.numel())
    for w, v in zip(torch.split(W, rows_at_once), torch.split(V, rows_at_once), strict=True):
        for _ in range(swaps):
            lacks = (w - v) @ H
            comes = ((w * H.diagonal() - 2 * lacks) * w).masked_fill((v != 0) | (w == 0), torch.inf)
            goes = ((v * H.diagonal() + 2 * lacks) * v).masked_fill(v == 0, torch.inf)
            change = goes[:, :, None] + comes[:, None, :] - 2 * v[:, :, None] * w[:, None, :] * H + apart
            best, pair = change.flatten(1).min(dim=1)
            better = (best < -TOLERANCE * ((w - v) * lacks).sum(dim=1)).nonzero().flatten()
            if not len(better):
                break
            p, u = pair[better] // len(H), pair[better] % len(H)
            v[better, u], v[better, p] = w[better, u], 0
    return V
