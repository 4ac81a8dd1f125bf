"""ALPS as a textbook would write it: an inverse at each change of ρ, full sorts, whole products for their diagonals."""

import torch
from torch import Tensor


def alps_textbook(W: Tensor, H: Tensor, zeros: int, nm: tuple[int, int] | None = None) -> Tensor:
    """Meng et al., arXiv 2406.07831, algorithms 1 and 2, in the dtype it is given.

    Prunes ``zeros`` weights of W (out, in) given H = XᵀX / tokens (in, in), or with ``nm`` = (n, m) all but n of every
    m inputs.
    """
    identity = torch.eye(len(H), dtype=H.dtype)
    d = H.diagonal().sqrt() + 1e-8
    A = H / d[:, None] / d
    A = A + 0.01 * A.diagonal().mean() * identity
    dense = d[:, None] * W.T

    def support_of(point: Tensor) -> Tensor:
        scores = point.T.abs()
        if nm is not None:
            n, m = nm
            groups = scores.reshape(-1, m)
            kept = torch.ones_like(groups, dtype=torch.bool)
            kept.scatter_(1, groups.argsort(dim=1)[:, : m - n], False)
        else:
            kept = torch.ones(scores.numel(), dtype=torch.bool)
            kept[scores.reshape(-1).argsort()[:zeros]] = False
        return kept.view(scores.shape).T

    rho, moved = 0.1, False
    inverse = torch.linalg.inv(A + rho * identity)
    D, V = dense.clone(), torch.zeros_like(dense)
    checked = support = support_of(dense)
    for step in range(1, 301):
        B = inverse @ (A @ dense - V + rho * D)
        support = support_of(B + V / rho)
        D = support * (B + V / rho)
        V = V + rho * (B - D)
        if step % 3:
            continue
        different = int((support != checked).sum())
        change = different / max(int(support.sum()), 1)
        checked = support
        if different == 0 and not moved and rho > 1e-4:
            rho = rho / 5
            D, V = dense.clone(), torch.zeros_like(dense)
            checked = support_of(dense)
        elif different == 0 or (step >= 30 and change < 0.0003):
            break
        else:
            moved = True
            rho = min(rho * (1.3 if change > 0.1 else 1.2 if change > 0.005 else 1.1), 1e6)
        inverse = torch.linalg.inv(A + rho * identity)

    residual = support * (A @ dense - A @ D)
    P = residual
    for _ in range(10):
        squared = (residual.T @ residual).diagonal()
        step_size = squared / (P.T @ (A @ P)).diagonal()
        step_size = torch.where(squared > 0, step_size, 0.0)
        D = D + P * step_size
        residual = residual - support * (A @ P) * step_size
        ratio = torch.where(squared > 0, (residual.T @ residual).diagonal() / squared, 0.0)
        P = residual + P * ratio
    return (D / d[:, None]).T
