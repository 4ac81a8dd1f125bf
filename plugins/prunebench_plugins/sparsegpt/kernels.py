# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, misc"
"""One tile of SparseGPT as one kernel on CUDA (needs triton): rows are independent, columns follow one another.

The plain path launches a handful of small kernels for each column; here a program keeps some rows of the tile in
registers from the first column to the last.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prunebench.pruning import NM, Target

ENTRIES = 2048  # of the tile, held by one program


def prune_tile(tile: Tensor, U: Tensor, target: Target, dead: Tensor) -> Tensor:
    """``algorithm.prune_tile``, with the same arguments and result."""
    U = U.contiguous()
    columns, rows = tile.shape
    errors = torch.empty_like(tile)
    n = m = 0
    if isinstance(target.pattern, NM):
        n, m = target.pattern.n, target.pattern.m
        kept = dead  # not read: groups are chosen as they are reached
    else:
        scores = (tile / U.diagonal()[:, None]).square_().masked_fill_(dead[:, None], 0)
        kept = target.mask(scores.t()).t().contiguous()
    width = triton.next_power_of_2(columns)
    height = max(ENTRIES // width, 1)
    _prune_tile[(triton.cdiv(rows, height),)](
        tile, errors, U, kept.view(torch.uint8), dead.view(torch.uint8), rows,
        COLUMNS=columns, N=n, M=m, ROWS=height, WIDTH=width,
    )  # fmt: skip
    return errors


@triton.jit
def _prune_tile(
    W, Errors, U, Kept, Dead, rows,
    COLUMNS: tl.constexpr, N: tl.constexpr, M: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    at = column[None, :] * rows + row[:, None]
    exists = column < COLUMNS
    inside = (row < rows)[:, None] & exists[None, :]
    w = tl.load(W + at, inside, other=0.0)
    errors = tl.zeros((ROWS, WIDTH), tl.float32)
    if M == 0:
        kept = tl.load(Kept + at, inside, other=1) != 0
    else:
        kept = column[None, :] + tl.zeros((ROWS, WIDTH), tl.int32) < 0
        diagonal = tl.load(U + column * (COLUMNS + 1), exists, other=1.0)
        dead = tl.load(Dead + column, exists, other=0) != 0
    for j in range(COLUMNS):
        if M > 0:  # noqa: SIM102 - a constant and a runtime value
            if j % M == 0:
                ratio = tl.div_rn(w, tl.broadcast_to(diagonal[None, :], (ROWS, WIDTH)))
                scores = tl.where(dead[None, :], 0.0, ratio * ratio)
                beaten_by = tl.zeros((ROWS, WIDTH), tl.int32)
                for i in tl.static_range(M):
                    other = tl.sum(tl.where(column[None, :] == j + i, scores, 0.0), axis=1)[:, None]
                    tie = (other == scores) & (column[None, :] > j + i)
                    beaten_by += ((other > scores) | tie).to(tl.int32)
                group = (column >= j) & (column < j + M)
                kept = tl.where(group[None, :], beaten_by < N, kept)
        u = tl.load(U + j * COLUMNS + column, exists & (column > j), other=0.0)
        pruned = tl.sum(tl.where((column[None, :] == j) & (kept == 0), w, 0.0), axis=1)
        e = tl.div_rn(pruned, tl.zeros_like(pruned) + tl.load(U + j * (COLUMNS + 1)))
        errors = tl.where(column[None, :] == j, e[:, None], errors)
        w = w - e[:, None] * u[None, :]
    tl.store(W + at, tl.where(kept, w, 0.0), inside)
    tl.store(Errors + at, errors, inside)
