"""Masks of the highest scores, by selection: exact counts, ties to the lower index, True = kept.

On a CPU by numpy, whose introselect takes a fiftieth of the time of torch.sort and whose comparisons a quarter of
torch's. On a device the threshold of a whole matrix comes from torch's ``topk``, since its ``kthvalue`` gives a row,
however long, to one thread block.
"""

import numpy as np
import torch
from torch import Tensor

MOST_COMPARED = 16  # members of a group up to which comparing each with each beats a selection


def keep_of_matrix(scores: Tensor, zeros: int) -> Tensor:
    """Keep all but the ``zeros`` lowest of the whole matrix.

    Args:
        scores: (rows, width), any float dtype.
        zeros: how many to prune, 0 to numel.

    Returns:
        Boolean (rows, width).

    Raises:
        ValueError: ``scores`` holds NaN.
    """
    return _keep(_sortable(scores).view(1, -1), zeros).view(scores.shape)


def keep_of_rows(scores: Tensor, zeros: int) -> Tensor:
    """Keep the highest of each row; row r prunes ⌊zeros·(r+1)/rows⌋ − ⌊zeros·r/rows⌋. Else as ``keep_of_matrix``."""
    values = _sortable(scores)
    rows = len(values)
    pruned = np.diff(zeros * np.arange(rows + 1) // rows)
    counts = np.unique(pruned)  # one, or two that differ by one
    if len(counts) == 1:
        return _keep(values, int(counts[0]))
    kept = torch.empty_like(values, dtype=torch.bool)
    for count in counts:
        chosen = torch.from_numpy(pruned == count).to(values.device)
        kept[chosen] = _keep(values[chosen], int(count))
    return kept


def keep_of_groups(scores: Tensor, n: int, m: int) -> Tensor:
    """Keep the n highest of every m consecutive entries of a row, whose width m divides. Else as ``keep_of_matrix``."""
    groups = _sortable(scores).view(-1, m)
    if m > MOST_COMPARED or groups.device.type != "cpu":
        return _keep(groups, m - n).view(scores.shape)
    # In small groups each member is compared with each other one: m²/2 passes without a branch.
    members = np.ascontiguousarray(groups.numpy().T)
    beaten_by = np.zeros(members.shape, dtype=np.int8)
    for i in range(1, m):
        beats = members[:i] >= members[i]  # a tie goes to the lower index
        beaten_by[i] += beats.sum(axis=0, dtype=np.int8)
        beaten_by[:i] += ~beats
    return torch.from_numpy(np.ascontiguousarray((beaten_by < n).T)).view(scores.shape)


def _sortable(scores: Tensor) -> Tensor:
    """Scores in a dtype that can be selected from, checked for NaN."""
    values = scores.detach() if scores.dtype == torch.float64 else scores.detach().float()
    if torch.isnan(values.amax()):  # the maximum of anything with NaN is NaN
        raise ValueError("scores hold NaN: check the statistic they were computed from")
    return values.contiguous()


def _keep(values: Tensor, pruned: int) -> Tensor:
    """Keep all but the ``pruned`` lowest of each row (rows, width): a selection, not a sort."""
    width = values.shape[1]
    if pruned in (0, width):
        return torch.full_like(values, pruned == 0, dtype=torch.bool)
    select = _select_on_cpu if values.device.type == "cpu" else _select_on_device
    kept, counts, threshold = select(values, pruned)
    surplus = counts - (width - pruned)
    if surplus.any():
        rows, columns = (values == threshold).nonzero(as_tuple=True)
        ties = rows.bincount(minlength=len(values))
        position = torch.arange(len(rows), device=rows.device) - (ties.cumsum(0) - ties)[rows]
        dropped = position >= (ties - surplus)[rows]
        kept[rows[dropped], columns[dropped]] = False
    return kept


def _select_on_cpu(values: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which entries of each row are at least the one at ``position``, from 0, in ascending order.

    By numpy: its introselect takes a fiftieth of the time of torch.sort, and its comparisons a quarter of torch's.

    Returns:
        Boolean (rows, width); how many of each row (rows,); the entry at ``position`` of each row (rows, 1).
    """
    array = values.numpy()
    threshold = np.partition(array, position, axis=1)[:, position, None]
    kept = array >= threshold
    return torch.from_numpy(kept), torch.from_numpy(np.count_nonzero(kept, axis=1)), torch.from_numpy(threshold.copy())


def _select_on_device(values: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
    """``_select_on_cpu`` in torch, for tensors on a device."""
    if len(values) == 1:
        threshold = _kth_smallest(values[0], position).view(1, 1)
    else:
        threshold = values.kthvalue(position + 1, dim=1, keepdim=True).values
    kept = values >= threshold
    return kept, kept.sum(dim=1), threshold


def _kth_smallest(values: Tensor, position: int) -> Tensor:
    """The entry at ``position``, from 0, in ascending order, of values (numel,): the last of the fewer ones."""
    if position < len(values) // 2:
        return values.topk(position + 1, largest=False, sorted=False).values.amax()
    return values.topk(len(values) - position, sorted=False).values.amin()
