"""ALPS by the rules of its authors: one eigendecomposition, unscaled duals, full sorts, whole products."""

import torch
from torch import Tensor


def alps_textbook(W: Tensor, H: Tensor, zeros: int, nm: tuple[int, int] | None = None, iterations: int = 300) -> Tensor:
    """Meng et al., arXiv 2406.07831, algorithms 1 and 2, in the dtype it is given.

    The authors' rules (github.com/mazumder-lab/ALPS, commit 8af9e6b, class ALPS_prune):

    1. Add a hundredth of the mean of H's diagonal to it, then scale by the root of the new diagonal + 1e-8.
    2. D starts as the projection of the scaled weights, V at 0, ρ at 0.1. An iteration: B ← (A + ρI)⁻¹(A W − V + ρD),
       D ← the k largest of B + V/ρ, V ← V + ρ(B − D).
    3. After every third, the support of D is compared with that of three iterations before (at first, of the start).
       Entries that differ, over k: above 0.1, ρ ← 1.3ρ; above 0.005, ρ ← 1.2ρ. Below that, if either was ever the
       case: 1.1ρ where any differs, and the end where none does. If neither was: ρ ← ρ/5, and where any differs D and V
       start again, and B is W. ρ is at most 10⁶.
    4. From iteration 31 on, a check that finds less than 0.0003 ends the run.
    5. The support is that of the k largest of the last B, not of D; from there, ten steps of conjugate gradients on
       the support, with a step size for each output.

    Prunes ``zeros`` weights of W (out, in) given H = XᵀX / tokens (in, in), or with ``nm`` = (n, m) all but n of every
    m inputs.
    """
    A = H + 0.01 * H.diagonal().mean() * torch.eye(len(H), dtype=H.dtype)
    d = A.diagonal().sqrt() + 1e-8
    A = A / d[:, None] / d
    dense = d[:, None] * W.T
    eigenvalues, Q = torch.linalg.eigh(A)

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
    checked = support_of(dense)
    D, V = checked * dense, torch.zeros_like(dense)
    for iteration in range(1, iterations + 1):
        B = Q @ ((Q.T @ (A @ dense - V + rho * D)) / (eigenvalues + rho)[:, None])
        support = support_of(B + V / rho)
        D = support * (B + V / rho)
        V = V + rho * (B - D)
        if iteration % 3:
            continue
        different = int((support != checked).sum())
        change = different / max(int(support.sum()), 1)
        checked = support
        if change > 0.1:
            rho, moved = 1.3 * rho, True
        elif change > 0.005:
            rho, moved = 1.2 * rho, True
        elif different > 0 and moved:
            rho = 1.1 * rho
        elif different > 0:
            rho, B, D, V = rho / 5, dense, support_of(dense) * dense, torch.zeros_like(dense)
        elif moved:
            break
        else:
            rho = rho / 5
        rho = min(rho, 1e6)
        if iteration >= 31 and change < 0.0003:
            break

    support = support_of(B)
    D = support * B
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
