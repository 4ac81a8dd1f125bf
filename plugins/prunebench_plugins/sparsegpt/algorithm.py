"""Algorithm 1 of the paper: tiles of columns, and within a tile one column after the other."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from prunebench.pruning import Target

SUBTILE = 16  # columns updated one by one; the errors to the left of them in the tile are applied as one product

PruneTile = Callable[[Tensor, Tensor, Target, Tensor], Tensor]


def sparsegpt(
    W: Tensor, U: Tensor, target: Target, *, dead: Tensor, blocksize: int = 128, prune: PruneTile | None = None
) -> Tensor:
    """Prune tile by tile; the columns to the right of a tile compensate for its errors.

    Args:
        W: weights, fp32 (out, in).
        U: upper Cholesky factor of the damped inverse Hessian, fp32 (in, in).
        target: number and pattern of the zeros. Each tile of ``blocksize`` columns gets its share, chosen on the
            current weights at the start of the tile; an n:m group is chosen when its first column is reached.
        dead: inputs that are never active, boolean (in,). The authors set their weights to zero; here they are the
            first to be pruned, so that the count stays exact.
        blocksize: columns in a tile; rounded down to whole n:m groups.
        prune: prunes one tile, as ``prune_tile``; by default the Triton kernel on CUDA, else ``prune_tile``.

    Returns:
        The pruned and updated weights, fp32 (out, in); ``W`` is left alone.
    """
    step = target.step(blocksize)
    blocksize = max(blocksize // step, 1) * step
    prune = prune or (on_device() if W.is_cuda else prune_tile)
    columns = W.t().clone(memory_format=torch.contiguous_format)  # a column of W lies together
    for start in range(0, len(columns), blocksize):
        end = min(start + blocksize, len(columns))
        tile = slice(start, end)
        errors = prune(columns[tile], U[tile, tile], target.columns(start, end), dead[tile])
        columns[end:].addmm_(U[tile, end:].t(), errors, alpha=-1)
    return columns.t()


def on_device() -> PruneTile:
    """The Triton kernel where triton is installed, else the plain path: the same numbers to rounding."""
    if find_spec("triton") is None:
        return prune_tile
    from prunebench_plugins.sparsegpt import kernels

    return kernels.prune_tile


def prune_tile(tile: Tensor, U: Tensor, target: Target, dead: Tensor) -> Tensor:
    """Prune the columns of one tile: e = (w − mask·w)/U_jj, later columns −= e·U_jk.

    A column is updated when it is reached, with the errors of the columns to its left: those before its sub-tile are
    applied to the whole sub-tile as one product, those of the sub-tile column by column.

    Args:
        tile: current weights, fp32 (columns, out), changed in place.
        U: its square of the factor, fp32 (columns, columns).
        target: number and pattern of the tile's zeros.
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
        subtile = slice(start, min(start + updated_together, len(tile)))
        tile[subtile].addmm_(U[subtile, :start], errors[:start], alpha=-1)
        if start % chosen_together == 0:
            chosen = slice(start, start + chosen_together)
            scores = (tile[chosen] * scale[chosen]).square_().masked_fill_(dead[chosen, None], 0)
            kept[chosen] = target.columns(start, start + len(scores)).mask(scores.t()).t()
            weight_to_error[chosen] = ~kept[chosen] * scale[chosen]
        previous = errors[subtile].t()  # zero where not computed yet
        for w, u, factor, e in zip(
            tile[subtile].unbind(),
            U[subtile, subtile].unbind(),
            weight_to_error[subtile].unbind(),
            errors[subtile].unbind(),
            strict=True,
        ):
            w.addmv_(previous, u, alpha=-1)
            torch.mul(w, factor, out=e)
    tile.mul_(kept)
    return errors
