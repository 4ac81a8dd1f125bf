"""Refinement of masks by trying every exchange (SparseSwaps), and by the rule of DSnoT, one row at a time."""

from torch import Tensor


def row_error(w: Tensor, v: Tensor, H: Tensor) -> float:
    """(w − v)ᵀ H (w − v) in float64."""
    r = (w - v).double()
    return float(r @ H.double() @ r)


def refined_row(w: Tensor, v: Tensor, H: Tensor, group: int | None, swaps: int) -> Tensor:
    """Zimmer et al., arXiv 2512.10922: the exchange of a kept for a pruned weight with the least error, repeatedly."""
    v = v.clone()
    for _ in range(swaps):
        now, best = row_error(w, v, H), None
        for p in range(len(w)):
            for u in range(len(w)):
                together = group is None or p // group == u // group
                if v[p] != 0 and v[u] == 0 and w[u] != 0 and together:
                    other = v.clone()
                    other[p], other[u] = 0, w[u]
                    error = row_error(w, other, H)
                    if best is None or error < best[0]:
                        best = error, other
        if best is None or best[0] >= now * (1 - 1e-6):
            return v
        v = best[1]
    return v


def dsnot_row(w: Tensor, kept: list[bool], X: Tensor, group: int | None, swaps: int, threshold: float) -> list[bool]:
    """Zhang et al., arXiv 2310.08915: which weights of a row w (in,) are kept after growing and pruning in turn.

    Args:
        w: the dense weights.
        kept: the mask to begin with.
        X: inputs (tokens, in).
        group: of an n:m pattern; None for unstructured.
        swaps: at most so many.
        threshold: of the absolute expected change of the output, at which the row is done.
    """
    mean, variance, norm = X.mean(dim=0), X.var(dim=0, correction=0), X.norm(dim=0)
    count, mask = len(w), list(kept)
    give = [float(w[j] * mean[j]) for j in range(count)]
    error = sum(give[j] for j in range(count) if not kept[j])
    begun, pruned_before, kept_before = (
        error,
        {j for j in range(count) if not kept[j]},
        {j for j in range(count) if kept[j]},
    )
    for _ in range(swaps):
        if abs(error) <= threshold:
            break
        sign = 1 if error > 0 else -1
        grow = [j for j in pruned_before if sign * give[j] > 0]
        if not grow:
            break
        u = max(grow, key=lambda j: sign * give[j] / float(variance[j]))
        if group is None:
            go = [j for j in kept_before if sign * give[j] < 0]
        else:
            go = [j for j in kept_before if j // group == u // group]
        if not go:
            break
        p = min(go, key=lambda j: abs(float(w[j])) * float(norm[j]))
        after = error + give[p] - give[u]
        if group is not None and (after > 0) != (begun > 0):
            break
        mask[u], mask[p], error = True, False, after
        pruned_before.discard(u)
        kept_before.discard(p)
    return mask
