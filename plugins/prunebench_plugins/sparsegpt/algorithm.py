"""Algorithm 1 of the paper: tiles of columns, and within a tile one column after the other."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from prunebench.pruning import Target

SUBTILE = 16  # columns that are updated one by one; what lies left of them in the tile is applied as one product

PruneTile = Callable[[Tensor, Tensor, Target, Tensor], Tensor]


def sparsegpt(W: Tensor, U: Tensor, target: Target, *, dead: Tensor, blocksize: int = 128) -> Tensor:
    """Prune tile by tile; each tile's errors are made up for by the columns to its right.

    Args:
        W: weights, fp32 (out, in).
        U: upper Cholesky factor of the damped inverse Hessian, fp32 (in, in).
        target: the zeros asked for. Each tile of ``blocksize`` columns gets its share, chosen on the current weights
            as the tile is entered; an n:m group when its first column is reached.
        dead: inputs that are never active, boolean (in,). The authors set their weights to zero; here they are the
            first to be pruned, so that the count stays exact.
        blocksize: columns in a tile; rounded down to whole n:m groups.

    Returns:
        The pruned and updated weights, fp32 (out, in); ``W`` is left alone.
    """
    step = target.step(blocksize)
    blocksize = max(blocksize // step, 1) * step
    prune = on_device() if W.is_cuda else prune_tile
    columns = W.t().clone(memory_format=torch.contiguous_format)  # a column of W lies together
    for start in range(0, len(columns), blocksize):
        end = min(start + blocksize, len(columns))
        here = slice(start, end)
        errors = prune(columns[here], U[here, here], target.columns(start, end), dead[here])
        columns[end:].addmm_(U[here, end:].t(), errors, alpha=-1)
    return columns.t()


def on_device() -> PruneTile:
    """The Triton kernel where triton is installed, else the plain path: the same numbers to rounding."""
    if find_spec("triton") is None:
        return prune_tile
    from prunebench_plugins.sparsegpt import kernels

    return kernels.prune_tile


def prune_tile(tile: Tensor, U: Tensor, target: Target, dead: Tensor) -> Tensor:
    """Prune the columns of one tile: e = (w − mask·w)/U_jj, later columns −= e·U_jk.

    A column is brought up to date when it is reached, by the errors of those left of it: one product for the columns
    of a sub-tile, so that the last, column by column, reads only the errors of that sub-tile.

    Args:
        tile: current weights, fp32 (columns, out), changed in place.
        U: its square of the factor, fp32 (columns, columns).
        target: what is asked of the tile.
        dead: boolean (columns,).

    Returns:
        The errors e, fp32 (columns, out).
    """
    scale = U.diagonal().reciprocal()[:, None]
    errors = torch.zeros_like(tile)
    kept = torch.empty_like(tile, dtype=torch.bool)
    weight_to_error = torch.empty_like(tile)
    chosen_together, updated_together = target.step(len(tile)), target.step(SUBTILE)
    U = U.t().contiguous()
    for start in range(0, len(tile), updated_together):
        here = slice(start, min(start + updated_together, len(tile)))
        tile[here].addmm_(U[here, :start], errors[:start], alpha=-1)
        if start % chosen_together == 0:
            chosen = slice(start, start + chosen_together)
            scores = (tile[chosen] * scale[chosen]).square_().masked_fill_(dead[chosen, None], 0)
            kept[chosen] = target.columns(start, start + len(scores)).mask(scores.t()).t()
            weight_to_error[chosen] = ~kept[chosen] * scale[chosen]
        left = errors[here].t()  # zero where not computed yet
        for w, u, factor, e in zip(
            tile[here].unbind(),
            U[here, here].unbind(),
            weight_to_error[here].unbind(),
            errors[here].unbind(),
            strict=True,
        ):
            w.addmv_(left, u, alpha=-1)
            torch.mul(w, factor, out=e)
    tile.mul_(kept)
    return errors
