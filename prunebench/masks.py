"""A sample of a pruned model's mask, small enough to keep beside every record."""

import math

import numpy as np
from torch import nn

from prunebench.pruning import Sparsity, prunable
from prunebench.pruning.layers import all_layers

SAMPLED_WEIGHTS = 1 << 16  # 8 KiB; the overlap of two masks is known to some 0.4 %


def mask_sample(model: nn.Module, sparsity: Sparsity, weights: int = SAMPLED_WEIGHTS) -> np.ndarray:
    """Which weights are not zero, in every so many-th row of each prunable matrix.

    Whether a sparse structure is stable between seeds and methods is asked of pairs of masks; whole masks of large
    models would outweigh all else that is kept. The rows are the same for every method and seed of a model.

    Args:
        model: after pruning.
        sparsity: what was asked for.
        weights: how many are sampled; at least one row of every matrix is.

    Returns:
        uint8, (bytes,): a bit for each sampled weight, 1 = kept, matrices in the model's order, each row after row and
        filled up to a whole byte.
    """
    step = max(1, math.ceil(sum(math.prod(layer.shape) for layer in all_layers(model)) / weights))
    kept = [
        (layer.weight[step // 2 % layer.shape[0] :: step] != 0).flatten().cpu()
        for layer, _ in prunable(model, sparsity)
    ]
    return np.concatenate([np.packbits(mask.numpy()) for mask in kept])
