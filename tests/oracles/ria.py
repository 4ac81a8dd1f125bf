"""RIA by loops: scores of single weights, and the channels' order by trying every assignment."""

from itertools import permutations

import torch
from torch import Tensor


def ria_score(W: Tensor, X: Tensor, i: int, j: int, a: float) -> float:
    """Zhang et al., ICLR 2024: relative importance in row and column, times the activation's norm to the power a."""
    row = sum(abs(float(w)) for w in W[i])
    column = sum(abs(float(w)) for w in W[:, j])
    size = abs(float(W[i, j]))
    return (size / row + size / column) * (sum(float(x) ** 2 for x in X[:, j]) ** 0.5) ** a


def retained(scores: Tensor, order: list[int], n: int, m: int) -> float:
    """The sum of what n:m keeps of scores (out, in) whose columns are in this order."""
    total = 0.0
    for row in scores[:, order].tolist():
        for start in range(0, len(row), m):
            total += sum(sorted(row[start : start + m])[m - n :])
    return total


def dealt(scores: Tensor, m: int) -> list[int]:
    """Heuristic allocation: columns by their sums, dealt out to the groups to and fro."""
    sums = scores.sum(dim=0).tolist()
    ranked, groups = sorted(range(len(sums)), key=lambda j: sums[j]), len(sums) // m
    members: list[list[int]] = [[] for _ in range(groups)]
    for turn in range(m):
        cards = ranked[turn * groups : (turn + 1) * groups]
        for group, card in enumerate(cards if turn % 2 == 0 else reversed(cards)):
            members[group].append(card)
    return [column for group in members for column in group]


def channel_order_textbook(scores: Tensor, n: int, m: int) -> list[int]:
    """Heuristic allocation; then for each place in the groups the best assignment of the columns that are there."""
    order = dealt(scores, m)
    groups = len(order) // m
    for place in range(m):
        tried = []
        for assignment in permutations(range(groups)):
            other = list(order)
            for group, source in enumerate(assignment):
                other[group * m + place] = order[source * m + place]
            tried.append((retained(scores, other, n, m), other))
        order = max(tried)[1]
    return order


def pruned_apart(scores: Tensor, n: int, m: int) -> Tensor:
    """The n:m mask of scores by sorting each group; boolean (out, in), True = kept."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for i, row in enumerate(scores.tolist()):
        for start in range(0, len(row), m):
            best = sorted(range(start, start + m), key=lambda j: -row[j])[:n]
            mask[i, best] = True
    return mask
