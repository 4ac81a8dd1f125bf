"""Refusal of matrices whose columns no longer stand where the dense model has them."""

import torch
from torch import Tensor


def refuse_reordered(W: Tensor, V: Tensor, name: str) -> None:
    """Refuse a sparse matrix whose rows hold the dense rows' own weights, but not at their places.

    Args:
        W: dense, fp32 (out, in).
        V: sparse, fp32 (out, in).
        name: of the layer.

    Raises:
        ValueError: it is one.
    """
    rows = W.sort(dim=1).values
    place = torch.searchsorted(rows, V.contiguous()).clamp(max=W.shape[1] - 1)
    known = (rows.gather(1, place) == V) | (V == 0)
    if bool(known.all()) and bool(((V != 0) & (V != W)).any()):
        raise ValueError(
            f"the columns of {name} stand in another order than the dense model's, as after ria with permutation, so "
            "that its weights cannot come back: leave out the permutation"
        )
