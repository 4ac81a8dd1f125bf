"""SparseGPT: one-shot pruning with optimal brain surgeon updates (Frantar and Alistarh, arXiv 2301.00774)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import CalibrationData, Hessian, Sparsity, Target, calibrated


@dataclass(frozen=True)
class SparseGPT:
    """Prune column by column; each column's error is made up for by the columns to its right.

    Args:
        percdamp: damping of the Hessian as a share of its mean diagonal.
        blocksize: columns whose mask is chosen together, and whose updates to the rest are applied together.
    """

    percdamp: float = 0.01
    blocksize: int = 128

    def __post_init__(self) -> None:
        if self.percdamp < 0:
            raise ValueError(f"percdamp {self.percdamp} is negative: give a share of the mean diagonal, as 0.01")
        if self.blocksize < 1:
            raise ValueError(f"blocksize {self.blocksize} is below 1: give a number of columns, as 128")

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Prune block by block on the inputs that the pruned blocks before it produce."""
        for layer, H, target in calibrated(model, data, sparsity, Hessian):
            U = H.factor(self.percdamp)
            layer.weight.copy_(sparsegpt(layer.weight.float(), U, target, dead=H.dead, blocksize=self.blocksize))


def sparsegpt(W: Tensor, U: Tensor, target: Target, *, dead: Tensor, blocksize: int = 128) -> Tensor:
    """Algorithm 1 of the paper.

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
    W = W.clone()
    columns = W.shape[1]
    step = target.step(blocksize)
    blocksize = max(blocksize // step, 1) * step
    for start in range(0, columns, blocksize):
        end = min(start + blocksize, columns)
        tile, U_tile = W[:, start:end], U[start:end, start:end]
        kept = torch.empty_like(tile, dtype=torch.bool)
        errors = torch.empty_like(tile)
        for j in range(end - start):
            if j % step == 0:
                group = slice(j, min(j + step, end - start))
                scores = (tile[:, group] / U_tile.diagonal()[group]).square()
                scores.masked_fill_(dead[start:end][group], 0)
                kept[:, group] = target.columns(start + group.start, start + group.stop).mask(scores)
            w = tile[:, j]
            pruned = w.masked_fill(~kept[:, j], 0)
            errors[:, j] = (w - pruned) / U_tile[j, j]
            tile[:, j] = pruned
            tile[:, j + 1 :].addr_(errors[:, j], U_tile[j, j + 1 :], alpha=-1)
        W[:, end:].addmm_(errors, U[start:end, end:], alpha=-1)
    return W
