"""What reports say of how far masks overlap."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prunebench.pruning import Unstructured, prunable
from prunebench.records.arrays import ArrayStore
from prunebench.records.store import read_record, write_record
from prunebench.report.scenes import Scenes
from prunebench.report.tables.mask_overlap import expected_by_chance, jaccard, overlap_tables
from prunebench.runner.mask_sample import mask_sample
from tests.helpers import tiny
from tests.helpers.records import record


def pack(*bits: int) -> np.ndarray:
    return np.packbits(np.array(bits, dtype=bool))


def pruned(seed: int, ratio: float = 0.5) -> np.ndarray:
    """A whole mask of random scores."""
    model, sparsity = tiny.llama(), Unstructured(ratio)
    generator = torch.Generator().manual_seed(seed)
    for layer, target in prunable(model, sparsity):
        layer.weight.masked_fill_(~target.mask(torch.rand(layer.shape, generator=generator)), 0)
    return mask_sample(model, sparsity)


class TestOverlap:
    def test_jaccard(self) -> None:
        assert jaccard(pack(1, 1, 0, 0), pack(0, 1, 1, 0)) == pytest.approx(1 / 3)
        assert jaccard(pack(1, 0), pack(1, 0)) == 1
        assert jaccard(pack(0), pack(0)) == 1
        with pytest.raises(ValueError, match="not of the same weights"):
            jaccard(pack(*[1] * 8), pack(*[1] * 9))

    @pytest.mark.parametrize("ratio", [0.5, 0.9])
    def test_unrelated_masks_overlap_by_chance(self, ratio: float) -> None:
        assert jaccard(pruned(0, ratio), pruned(1, ratio)) == pytest.approx(expected_by_chance(ratio), abs=0.02)

    def test_between_seeds_and_between_methods(self, tmp_path: Path) -> None:
        masks = {("a", 0): (1, 1, 0, 0), ("a", 1): (0, 1, 1, 0), ("b", 0): (1, 1, 0, 0)}
        records = [
            read_record(write_record(tmp_path, record(method, seed=seed), {"mask": pack(*bits)}))
            for (method, seed), bits in masks.items()
        ]
        without = record("c")
        (table,) = overlap_tables(Scenes.of([*records, without], ["b"]).settings, ArrayStore(tmp_path))
        assert table.headers == ("masks of", "and of", "0.5")
        assert table.rows == (
            ("a", "itself, other seeds", "0.33"),
            ("b", "a", "0.67"),  # (1 + 1/3) / 2
            ("by chance", "", "0.05"),  # the golden record asks for 0.9
        )

    def test_methods_that_share_no_sparsity(self, tmp_path: Path) -> None:
        cells = {("a", "0.5"): (1, 1, 0), ("b", "0.9"): (0, 1, 1), ("c", "0.5"): (1, 1, 0)}
        records = [
            read_record(write_record(tmp_path, record(*cell), {"mask": pack(*bits)})) for cell, bits in cells.items()
        ]
        (table,) = overlap_tables(Scenes.of(records).settings, ArrayStore(tmp_path))
        assert table.rows == (("a", "c", "1.00", "–"), ("by chance", "", "0.05", "0.05"))

    def test_masks_without_facts_on_sparsity(self, tmp_path: Path) -> None:
        without = [record(seed=seed).model_copy(update={"sparsity": None}) for seed in (0, 1)]
        records = [read_record(write_record(tmp_path, made, {"mask": pack(1, 1)})) for made in without]
        (table,) = overlap_tables(Scenes.of(records).settings, ArrayStore(tmp_path))
        assert table.rows[-1] == ("by chance", "", "–")
