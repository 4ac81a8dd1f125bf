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
    layers = all_layers(model)
    step = max(1, math.ceil(sum(math.prod(layer.shape) for layer in layers) / weights))
    rows = {layer.name: slice(step // 2 % layer.shape[0], None, step) for layer in layers}
    sizes = [math.ceil(len(range(*rows[layer.name].indices(layer.shape[0]))) * layer.shape[1] / 8) for layer in layers]
    # Made before the first block is read: what is made beside a block and outlives it keeps its memory in use.
    sample = np.empty(sum(sizes), dtype=np.uint8)
    end = 0
    for layer, _ in prunable(model, sparsity):
        bits = np.packbits((layer.weight[rows[layer.name]] != 0).flatten().cpu().numpy())
        sample[end : (end := end + len(bits))] = bits
    return sample
