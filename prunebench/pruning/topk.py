"""Masks of the highest scores, by selection: exact counts, ties to the lower index, True = kept.

On a CPU by numpy, whose introselect takes a fiftieth of the time of torch.sort and whose comparisons a quarter of
torch's. On a device the threshold of a whole matrix comes from two histograms of the scores' bits, since torch's
``kthvalue`` gives a row, however long, to one thread block.
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
    if len(values) == 1 and values.dtype == torch.float32:
        threshold = _kth_smallest(values[0], position).view(1, 1)
    else:
        threshold = values.kthvalue(position + 1, dim=1, keepdim=True).values
    kept = values >= threshold
    return kept, kept.sum(dim=1), threshold


def _kth_smallest(values: Tensor, position: int) -> Tensor:
    """The entry at ``position``, from 0, in ascending order; exact, by two histograms.

    The bits of an fp32 number without its sign, read as an integer, have the order of its magnitude; with the bits of
    negative numbers inverted, the order holds for all numbers. The first histogram, of the upper 16 bits, gives the
    upper half of the result, the second, of the lower 16 bits of the entries in that bin, the lower half. Both are
    sums of integers, so the result does not depend on the order in which a device adds.

    Args:
        values: fp32 (numel,), no NaN.
        position: 0 to numel − 1.

    Returns:
        fp32 scalar on the device of ``values``.
    """
    bits = (values + 0.0).view(torch.int32)  # −0 + 0 = 0: two zeros are equal, but their bits are not
    keys = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    upper = (keys >> 16) + 0x8000
    upper_bin, before = _bin_of(upper, position)
    lower_bin, _ = _bin_of(keys[upper == upper_bin] & 0xFFFF, position - before)
    key = torch.tensor((upper_bin - 0x8000) << 16 | lower_bin, dtype=torch.int32, device=values.device)
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _bin_of(codes: Tensor, position: int) -> tuple[int, int]:
    """The 16-bit code at ``position`` in ascending order, and how many codes are smaller."""
    upto = codes.bincount(minlength=1 << 16).cumsum(0)
    code = int(torch.searchsorted(upto, position, right=True))
    return code, int(upto[code - 1]) if code else 0
