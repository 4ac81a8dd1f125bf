"""Layer-wise ADMM as a textbook would write it: in float64, with an inverse, a full sort and no scaling tricks."""

import torch
from torch import Tensor


def admm_textbook(W: Tensor, H: Tensor, zeros: int, iterations: int, ramp: int) -> Tensor:
    """Prune ``zeros`` weights of W (out, in) given H = XᵀX / tokens (in, in); Boža, arXiv 2401.02938, algorithm 1."""
    W, H = W.double(), H.double()
    D = torch.diag(H.diagonal().sqrt() + 1e-8)
    A = torch.linalg.inv(D) @ H @ torch.linalg.inv(D)
    A = A + 0.1 * A.diagonal().mean() * torch.eye(len(H), dtype=A.dtype)
    inverse = torch.linalg.inv(A + torch.eye(len(H), dtype=A.dtype))
    target = D @ W.T
    V, U = target.clone(), torch.zeros_like(target)

    def smallest_pruned(scores: Tensor, count: int) -> Tensor:
        flat = scores.T.reshape(-1)
        mask = torch.ones_like(flat, dtype=torch.bool)
        mask[flat.argsort()[:count]] = False
        return mask.view(scores.T.shape).T

    mask = smallest_pruned(V.abs(), zeros)
    for t in range(1, iterations + 1):
        if t <= ramp:
            mask = smallest_pruned((V + U).abs(), int(zeros * (1 - (1 - t / ramp) ** 3)))
        Z = mask * (V + U)
        U = U + V - Z
        V = inverse @ (A @ target + (Z - U))
    return (torch.linalg.inv(D) @ (mask * (V + U))).T
