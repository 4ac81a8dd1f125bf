"""Saved models come back bit for bit, in either form, and say what they are."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from prunebench import load_sparse
from prunebench.errors import ModelError, OutputError
from prunebench.models.digest import weights_digest
from prunebench.models.loading import load_model
from prunebench.models.saving import save_checkpoints
from prunebench.models.source import find_model
from prunebench.models.sparse import FILE, decode, encode, information_bound
from prunebench.pruning import NM, Unstructured, prunable
from prunebench.records.record import SavedFacts
from prunebench.records.store import read_record
from prunebench.report.output.model_card import model_card, write_cards
from prunebench.report.tables.cost import size_table
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.yaml12 import read_yaml
from tests.cli.test_app import prunebench
from tests.helpers import tiny
from tests.helpers.text import tokenizer
from tests.report.test_tables import record
from tests.runner.test_sweep import Silent

Write = Callable[..., Path]


def pruned(model: PreTrainedModel, pattern: Unstructured | NM) -> PreTrainedModel:
    for layer, target in prunable(model, pattern):
        layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
    return model


class TestForms:
    @pytest.mark.parametrize(
        ("name", "dtype"),
        [*((name, "float32") for name in tiny.MATRICES), ("llama", "bfloat16"), ("gemma3", "bfloat16")],
    )
    def test_both_come_back_bit_for_bit(self, name: str, dtype: str, tmp_path: Path) -> None:
        tiny.MODELS[name]().save_pretrained(tmp_path / "dense")
        tokenizer().save_pretrained(tmp_path / "dense")
        model, _ = load_model(find_model(str(tmp_path / "dense")), dtype=dtype, device="cpu")
        pruned(model, Unstructured(0.7))
        save_checkpoints(model, tokenizer(), tmp_path, "x", Unstructured(0.7))
        again, _ = load_model(find_model(str(tmp_path / "models" / "x")), dtype="auto", device="cpu")
        compact = load_sparse(tmp_path / "sparse" / "x")
        tokens = tiny.tokens(length=12)[None]
        for back in (again, compact):
            assert weights_digest(back) == weights_digest(model)
            assert len({id(p) for p in back.parameters()}) == len({id(p) for p in model.parameters()})
            assert not back.training
            with torch.no_grad():
                assert torch.equal(back(tokens).logits, model(tokens).logits)

    def test_the_configuration_says_nothing_of_sparsity(self, tmp_path: Path) -> None:
        model = tiny.llama()
        model.config.sparsity_config = {"format": "sparse-bitmask"}
        save_checkpoints(model, tokenizer(), tmp_path, "x", Unstructured(0.5))
        for form in ("models", "sparse"):
            config = json.loads((tmp_path / form / "x" / "config.json").read_text())
            assert not {"sparsity_config", "quantization_config", "compression_config"} & set(config)
        AutoModelForCausalLM.from_pretrained(tmp_path / "models" / "x")

    def test_the_global_generator_is_left_alone(self, tmp_path: Path) -> None:
        save_checkpoints(tiny.llama(), tokenizer(), tmp_path, "x", Unstructured(0.5))
        state = torch.get_rng_state()
        load_sparse(tmp_path / "sparse" / "x")
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "models").write_text("")
        with pytest.raises(OutputError, match="cannot save the model in"):
            save_checkpoints(tiny.llama(), tokenizer(), tmp_path, "x", Unstructured(0.5))


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


class TestRun:
    def test_models_are_saved_once_and_again_when_they_are_gone(self, write_suite: Write, tmp_path: Path) -> None:
        cells = plan(load_suite(write_suite(sparsities="sparsities: [0.5]", methods="methods: [dense, magnitude]")))
        output = tmp_path / "out"

        def begun() -> list[str]:
            display = Silent()
            run_suite(cells, output, display, save_models=True)
            return display.begun

        run_suite(cells, output, Silent())
        assert begun() == [cells[1].id]  # the dense model is there anyway
        assert begun() == []
        for form in ("models", "sparse"):
            assert [path.name for path in (output / form).iterdir()] == [cells[1].id]
        (output / "sparse" / cells[1].id / "config.json").unlink()
        assert begun() == [cells[1].id]
        found = read_record(output / f"{cells[1].id}.json")
        back, _ = load_model(find_model(str(output / "models" / cells[1].id)), dtype="auto", device="cpu")
        assert weights_digest(back) == found.environment["weights_digest"]
        assert weights_digest(load_sparse(output / "sparse" / cells[1].id)) == found.environment["weights_digest"]

    def test_the_option(self, write_suite: Write, tmp_path: Path) -> None:
        suite = write_suite(sparsities="sparsities: [0.5]", methods="methods: [magnitude]")
        result = prunebench("run", suite, "--output", tmp_path / "out", "--save-models")
        assert result.exit_code == 0
        assert "Sizes of saved weights" in result.stdout
        assert len(list((tmp_path / "out").glob("*/*/README.md"))) == 2


class TestCard:
    def test_the_metadata_are_what_the_hub_reads(self) -> None:
        from huggingface_hub import ModelCard

        made = record("wanda", "0.9", value=12.5, revision="abc123", source="owner/name@abc123")
        card = ModelCard(model_card(made))
        assert card.data.base_model == "owner/name"
        found = {(r.dataset_type, r.metric_type): r.metric_value for r in card.data.eval_results or []}
        assert found["tinystories_eval/document-256", "perplexity"] == 12.5
        assert found["arc_easy", "acc"] == 0.25

    def test_a_broken_model_has_no_metric_and_says_so(self) -> None:
        shown = model_card(record(value=math.nan))
        front = read_yaml(shown.split("---\n")[1])
        types = [result["metrics"][0]["type"] for result in front["model-index"][0]["results"]]
        assert "perplexity" not in types
        assert "| nan" in shown.replace("  ", "").replace("|nan", "| nan")

    def test_a_local_path_is_not_told(self) -> None:
        assert "/models/stories" not in model_card(record())

    def test_names_are_text(self) -> None:
        shown = model_card(record(method="<script>alert(1)</script>\n---\nx: y"))
        assert "<script>" not in shown.split("\n---\n")[1]

    def test_it_stands_beside_both_forms(self, tmp_path: Path) -> None:
        saved = SavedFacts(dense_bytes=1000, sparse_bytes=330, bound_bytes=300)
        made = record().model_copy(update={"saved": saved})
        for form in ("models", "sparse"):
            (tmp_path / form / made.cell.id).mkdir(parents=True)
        write_cards(tmp_path, [made, record("other")])
        assert "from_pretrained" in (tmp_path / "models" / made.cell.id / "README.md").read_text()
        assert "load_sparse" in (tmp_path / "sparse" / made.cell.id / "README.md").read_text()


def test_sizes_are_tabled() -> None:
    saved = SavedFacts(dense_bytes=1000, sparse_bytes=330, bound_bytes=300)
    table = size_table([record().model_copy(update={"saved": saved}), record()])
    assert table.rows == (("stories", "wanda", "0.5", "0", "0.977 KiB", "330 B", "300 B", "0.330", "10.0 %"),)
