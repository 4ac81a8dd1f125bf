"""SparseGPT in its two plain forms: optimal brain surgeon on a given mask, and the paper's algorithm as written."""

import torch
from torch import Tensor


def sparsegpt_on_mask(W: Tensor, H: Tensor, mask: Tensor) -> Tensor:
    """Prune column after column by ``mask``, each time inverting what is left of the damped Hessian ``H`` in float64.

    No tiles and no Cholesky factor. W and mask are (out, in), H (in, in).
    """
    W, H = W.double().clone(), H.double()
    for j in range(W.shape[1]):
        inverse = torch.linalg.inv(H[j:, j:])
        error = torch.where(mask[:, j], 0.0, W[:, j]) / inverse[0, 0]
        W[:, j:] -= error[:, None] * inverse[0]
        W[:, j] = torch.where(mask[:, j], W[:, j], 0.0)
    return W


def sparsegpt_textbook(
    W: Tensor,
    H: Tensor,
    zeros: int,
    nm: tuple[int, int] | None = None,
    *,
    percdamp: float = 0.01,
    blocksize: int = 128,
) -> Tensor:
    """Frantar and Alistarh, arXiv 2301.00774, algorithm 1, in the dtype it is given: factorise, invert, factorise; one
    column at a time over the whole rest of its tile; masks by a full sort.

    Prunes ``zeros`` weights of W (out, in) given H = XᵀX / tokens (in, in), or with ``nm`` = (n, m) all but n of every
    m inputs.
    """
    W, H = W.clone(), H.clone()
    columns = W.shape[1]
    dead = H.diagonal() == 0
    H[dead, dead] = 1
    W[:, dead] = 0
    H += percdamp * H.diagonal().mean() * torch.eye(columns, dtype=H.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(H))
    U = torch.linalg.cholesky(inverse, upper=True)
    for start in range(0, columns, blocksize):
        end = min(start + blocksize, columns)
        tile, U_tile = W[:, start:end].clone(), U[start:end, start:end]
        kept = torch.ones_like(tile, dtype=torch.bool)
        errors = torch.zeros_like(tile)
        if nm is None:
            order = (tile**2 / U_tile.diagonal() ** 2).flatten().argsort()
            kept.view(-1)[order[: zeros * end // columns - zeros * start // columns]] = False
        for j in range(end - start):
            if nm is not None and j % nm[1] == 0:
                n, m = nm
                order = (tile[:, j : j + m] ** 2 / U_tile.diagonal()[j : j + m] ** 2).argsort(dim=1)
                kept[:, j : j + m].scatter_(1, order[:, : m - n], False)
            pruned = tile[:, j] * kept[:, j]
            errors[:, j] = (tile[:, j] - pruned) / U_tile[j, j]
            tile[:, j:] -= errors[:, j : j + 1] * U_tile[j : j + 1, j:]
            tile[:, j] = pruned
        W[:, start:end] = tile
        W[:, end:] -= errors @ U[start:end, end:]
    return W
