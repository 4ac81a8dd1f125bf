"""Layer-wise ADMM as a textbook would write it: with an inverse, a full sort and no scaling tricks."""

import torch
from torch import Tensor


def admm_textbook(W: Tensor, H: Tensor, zeros: int, iterations: int, ramp: int) -> Tensor:
    """Prune ``zeros`` weights of W (out, in) given H = XᵀX / tokens (in, in); Boža, arXiv 2401.02938, algorithm 1.

    In the dtype it is given. ``ramp`` 0 is the released code: the mask chosen anew as often, at the full sparsity.
    """
    identity = torch.eye(len(H), dtype=H.dtype)
    d = H.diagonal().sqrt() + 1e-8
    A = H / d[:, None] / d
    A = A + 0.1 * A.diagonal().mean() * identity
    inverse = torch.linalg.inv(A + identity)
    target = d[:, None] * W.T
    V, U = target.clone(), torch.zeros_like(target)

    def smallest_pruned(scores: Tensor, count: int) -> Tensor:
        flat = scores.T.reshape(-1)
        mask = torch.ones_like(flat, dtype=torch.bool)
        mask[flat.argsort()[:count]] = False
        return mask.view(scores.T.shape).T

    for t in range(1, iterations + 1):
        if t <= 15:
            zeros_now = int(zeros * (1 - (1 - t / ramp) ** 3)) if ramp else zeros
            mask = smallest_pruned((V + U).abs(), zeros_now)
        Z = mask * (V + U)
        U = U + V - Z
        V = inverse @ (A @ target + (Z - U))
    return (mask * (V + U) / d[:, None]).T
