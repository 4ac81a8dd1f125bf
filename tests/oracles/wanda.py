"""Wanda by brute force: one weight at a time."""

from torch import Tensor


def wanda_row_mask(w: Tensor, X: Tensor, keep: int) -> list[bool]:
    """Which weights of one row w (in,) stay, given inputs X (tokens, in)."""
    scores = [abs(float(w[j])) * sum(float(x) ** 2 for x in X[:, j]) ** 0.5 for j in range(len(w))]
    order = sorted(range(len(w)), key=lambda j: (-scores[j], j))
    return [j in order[:keep] for j in range(len(w))]
