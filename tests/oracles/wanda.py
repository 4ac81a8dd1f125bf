"""Wanda by brute force, one weight at a time, and by a full sort of each row."""

import torch
from torch import Tensor


def wanda_row_mask(w: Tensor, X: Tensor, keep: int) -> list[bool]:
    """Which weights of one row w (in,) stay, given inputs X (tokens, in)."""
    scores = [abs(float(w[j])) * sum(float(x) ** 2 for x in X[:, j]) ** 0.5 for j in range(len(w))]
    order = sorted(range(len(w)), key=lambda j: (-scores[j], j))
    return [j in order[:keep] for j in range(len(w))]


def wanda_textbook(W: Tensor, norm: Tensor, zeros: int) -> Tensor:
    """Sun et al., arXiv 2306.11695: prune ``zeros`` weights of W (out, in) given ‖X_j‖ (in,), by a sort of each row.

    Row r loses ⌊zeros·(r + 1)/out⌋ − ⌊zeros·r/out⌋ weights.
    """
    rows, columns = W.shape
    counts = (zeros * torch.arange(rows + 1) // rows).diff()
    order = (W.abs() * norm).sort(dim=1).indices
    pruned = torch.zeros_like(W, dtype=torch.bool)
    pruned.scatter_(1, order, torch.arange(columns) < counts[:, None])
    return W.masked_fill(pruned, 0)
