"""The sample of a mask that a record keeps."""

import numpy as np
import pytest
import torch

from prunebench.pruning import Unstructured, prunable
from prunebench.runner.mask_sample import mask_sample
from tests.helpers import tiny


def pruned(seed: int, ratio: float = 0.5) -> np.ndarray:
    """A whole mask of random scores."""
    model, sparsity = tiny.llama(), Unstructured(ratio)
    generator = torch.Generator().manual_seed(seed)
    for layer, target in prunable(model, sparsity):
        layer.weight.masked_fill_(~target.mask(torch.rand(layer.shape, generator=generator)), 0)
    return mask_sample(model, sparsity)


class TestSample:
    def test_a_small_model_keeps_every_bit(self) -> None:
        weights = sum(layer.weight.numel() for layer, _ in prunable(tiny.llama(), Unstructured(0.5)))
        found = pruned(0, ratio=0.75)
        assert found.size * 8 == weights
        assert np.unpackbits(found).sum() == pytest.approx(weights / 4, abs=21)  # each matrix rounds by itself

    def test_a_large_one_a_sample_of_each_matrix(self) -> None:
        model = tiny.gpt2()
        layers = [layer for layer, _ in prunable(model, Unstructured(0.5))]
        layers[0].weight.zero_()
        found = np.unpackbits(mask_sample(model, Unstructured(0.5), weights=3000))
        assert len(layers[0].weight[0]) <= found.size <= 5000
        assert found.sum() < found.size
        assert mask_sample(model, Unstructured(0.5), weights=1).size * 8 == sum(len(x.weight[0]) for x in layers)
