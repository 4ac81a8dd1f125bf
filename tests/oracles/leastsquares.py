"""The best weights on a given mask, row by row, by solving the normal equations on its support."""

import torch
from torch import Tensor


def exact_on_mask(W: Tensor, H: Tensor, mask: Tensor) -> Tensor:
    """argmin over Ŵ with support in ``mask`` of tr((W − Ŵ) H (W − Ŵ)ᵀ); W (out, in), H (in, in), in float64."""
    W, H = W.double(), H.double()
    best = torch.zeros_like(W)
    for row, kept in enumerate(mask):
        support = kept.nonzero().flatten()
        if len(support):
            best[row, support] = torch.linalg.solve(H[support][:, support], H[support] @ W[row])
    return best


def layer_error(W: Tensor, pruned: Tensor, H: Tensor) -> float:
    """tr((W − Ŵ) H (W − Ŵ)ᵀ)."""
    D = (W - pruned).double()
    return float((D @ H.double() * D).sum())
