"""SparseGPT as a textbook would write it: optimal brain surgeon, one weight column at a time, no tiles, no Cholesky."""

import torch
from torch import Tensor


def sparsegpt_on_mask(W: Tensor, H: Tensor, mask: Tensor) -> Tensor:
    """Prune column after column by ``mask``, each time inverting what is left of the damped Hessian ``H`` in float64.

    W and mask are (out, in), H (in, in).
    """
    W, H = W.double().clone(), H.double()
    for j in range(W.shape[1]):
        inverse = torch.linalg.inv(H[j:, j:])
        error = torch.where(mask[:, j], 0.0, W[:, j]) / inverse[0, 0]
        W[:, j:] -= error[:, None] * inverse[0]
        W[:, j] = torch.where(mask[:, j], W[:, j], 0.0)
    return W
