"""The compact form of a saved model: every bit returns, and damage is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from prunebench import load_sparse
from prunebench.errors import ModelError
from prunebench.models.saving import save_checkpoints
from prunebench.models.sparse import FILE, decode, encode, information_bound
from prunebench.pruning import NM, Unstructured, prunable
from tests.helpers import tiny
from tests.helpers.text import tokenizer


def pruned(model: PreTrainedModel, pattern: Unstructured | NM) -> PreTrainedModel:
    for layer, target in prunable(model, pattern):
        layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
    return model


class TestFormat:
    @given(st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.0, math.inf, math.nan]), min_size=1, max_size=40))
    def test_every_bit_returns(self, values: list[float]) -> None:
        tensor = torch.tensor(values)
        mask, kept = encode(tensor)
        back = decode(mask, kept, tuple(tensor.shape))
        assert torch.equal(back.view(torch.int32), tensor.view(torch.int32))
        assert len(mask) == math.ceil(len(values) / 8)

    def test_the_file_is_as_documented(self, tmp_path: Path) -> None:
        """Read by the page alone: lowest bit first, row-major."""
        model = pruned(tiny.llama(), Unstructured(0.9))
        save_checkpoints(model, tokenizer(), tmp_path, "x", Unstructured(0.9))
        file = tmp_path / "sparse" / "x" / FILE
        with safe_open(file, framework="pt") as content:
            metadata = content.metadata()
        assert (metadata["format"], metadata["version"]) == ("prunebench-sparse", "1")
        tensors, shapes = load_file(file), json.loads(metadata["shapes"])
        assert set(shapes) == {f"{layer.name}.weight" for layer, _ in prunable(model, Unstructured(0.9))}
        for name, shape in shapes.items():
            values = iter(tensors[f"{name}:values"].tolist())
            bits = [byte >> i & 1 for byte in tensors[f"{name}:mask"].tolist() for i in range(8)]
            flat = [next(values) if bit else 0.0 for bit in bits[: math.prod(shape)]]
            assert torch.equal(torch.tensor(flat).view(shape), model.get_parameter(name).detach())
        assert "model.embed_tokens.weight" not in tensors  # tied to lm_head.weight, which comes first

    @pytest.mark.parametrize("ratio", [0.5, 0.7, 0.9])
    def test_the_size_is_near_the_bound(self, ratio: float, tmp_path: Path) -> None:
        model = pruned(tiny.llama(), Unstructured(ratio))
        saved = save_checkpoints(model, tokenizer(), tmp_path, "x", Unstructured(ratio))
        weights = sum(layer.weight.numel() for layer, _ in prunable(model, Unstructured(ratio)))
        entropy = -ratio * math.log2(ratio) - (1 - ratio) * math.log2(1 - ratio)
        others = sum(parameter.nbytes for parameter in model.parameters()) - 4 * weights
        assert saved.bound_bytes == pytest.approx(weights * (entropy / 8 + 4 * (1 - ratio)) + others, rel=0.01)
        header = 12_000
        assert saved.bound_bytes <= saved.sparse_bytes < weights * (1 / 8 + 4 * (1 - ratio)) + others + header
        assert saved.dense_bytes == (tmp_path / "models" / "x" / "model.safetensors").stat().st_size

    def test_a_pattern_lowers_the_bound(self) -> None:
        model = pruned(tiny.llama(), NM(2, 4))
        weights = sum(layer.weight.numel() for layer, _ in prunable(model, NM(2, 4)))
        saved = information_bound(model) - information_bound(model, (2, 4))
        assert saved == pytest.approx(weights * (1 - math.log2(6) / 4) / 8, rel=0.03)


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        save_checkpoints(pruned(tiny.llama(), Unstructured(0.9)), tokenizer(), tmp_path, "x", Unstructured(0.9))
        return tmp_path / "sparse" / "x"

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="holds no whole sparse model"):
            load_sparse(tmp_path / "nowhere")

    def test_a_truncated_file(self, folder: Path) -> None:
        (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-100])
        with pytest.raises(ModelError, match="holds no whole sparse model"):
            load_sparse(folder)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"drop": "model.norm.weight"}, "lacks 1 tensors of the model, model.norm.weight for one"),
            ({"drop": "model.layers.0.mlp.up_proj.weight:mask"}, "holds no whole sparse model"),
            ({"cut": "model.layers.0.mlp.up_proj.weight:values"}, "does not fit"),
            ({"version": "2"}, "version '2'"),
        ],
    )
    def test_what_does_not_belong_together(self, folder: Path, change: dict[str, str], words: str) -> None:
        with safe_open(folder / FILE, framework="pt") as content:
            metadata = content.metadata()
        tensors = load_file(folder / FILE)
        tensors = {name: tensor for name, tensor in tensors.items() if name != change.get("drop")}
        if "cut" in change:
            tensors[change["cut"]] = tensors[change["cut"]][1:].clone()
        save_file(tensors, folder / FILE, metadata | {"version": change.get("version", "1")})
        with pytest.raises(ModelError, match=words):
            load_sparse(folder)
