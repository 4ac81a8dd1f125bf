"""Layer-wise ADMM by the rules of its authors: with an inverse, full sorts and no shared factors."""

import torch
from torch import Tensor


def admm_textbook(
    W: Tensor, H: Tensor, zeros: int, iterations: int, ramp: int, nm: tuple[int, int] | None = None
) -> Tensor:
    """Boža, arXiv 2401.02938, algorithm 1 with the gradual pruning of its section 4, in the dtype it is given.

    The authors' rules (github.com/fmfi-compbio/admm-pruning, commit 8039208, class AdmmPruner):

    1. Scale by the root of H's diagonal + 1e-8, then add a tenth of the mean of the scaled diagonal to it.
    2. ρ = 1: V ← (A + I)⁻¹(A V₀ + Z − U), Z ← mask · (V + U), U ← U + V − Z, V starting at V₀, U at 0.
    3. The mask is chosen in the first 15 of 20 iterations, the smallest |V + U| of the whole matrix going. The paper
       lets the sparsity of choice t rise to the target s by s − s(1 − t/15)³; the code leaves that out for
       unstructured patterns.
    4. For n:m the code lets it rise: the n largest of every m are kept, and of the rest the largest of the whole
       matrix, as many as are not yet to go.

    Prunes ``zeros`` weights of W (out, in) given H = XᵀX / tokens (in, in), or with ``nm`` = (n, m) all but n of every
    m inputs. ``ramp`` is 0 or 15: none, or rule 3 as in the paper.
    """
    identity = torch.eye(len(H), dtype=H.dtype)
    d = H.diagonal().sqrt() + 1e-8
    A = H / d[:, None] / d
    A = A + 0.1 * A.diagonal().mean() * identity
    inverse = torch.linalg.inv(A + identity)
    target = d[:, None] * W.T
    V, U = target.clone(), torch.zeros_like(target)

    def without_smallest(scores: Tensor, count: int) -> Tensor:
        flat = scores.T.reshape(-1)
        mask = torch.ones_like(flat, dtype=torch.bool)
        mask[flat.argsort()[:count]] = False
        return mask.view(scores.T.shape).T

    def choose(scores: Tensor, t: int) -> Tensor:
        rises = ramp or nm
        now = int(zeros * (1 - (1 - t / 15) ** 3)) if rises else zeros
        if nm is None:
            return without_smallest(scores, now)
        n, m = nm
        groups = scores.T.reshape(-1, m).clone()
        groups.scatter_(1, groups.argsort(dim=1)[:, m - n :], torch.inf)
        return without_smallest(groups.view(scores.T.shape).T, now)

    for t in range(1, iterations + 1):
        if t <= 15:
            mask = choose((V + U).abs(), t)
        Z = mask * (V + U)
        U = U + V - Z
        V = inverse @ (A @ target + (Z - U))
    return (mask * (V + U) / d[:, None]).T
