"""Saved models come back bit for bit, in either form, and say what they are."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from prunebench import load_sparse
from prunebench.errors import OutputError
from prunebench.models.digest import weights_digest
from prunebench.models.loading import load_model
from prunebench.models.saving import save_checkpoints
from prunebench.models.source import find_model
from prunebench.pruning import NM, Unstructured, prunable
from prunebench.records.record import SavedFacts
from prunebench.records.store import read_record
from prunebench.report.tables.cost import size_table
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers import tiny
from tests.helpers.command_line import prunebench
from tests.helpers.observers import SilentDisplay
from tests.helpers.records import record
from tests.helpers.text import tokenizer

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


class TestRun:
    def test_models_are_saved_once_and_again_when_they_are_gone(self, write_suite: Write, tmp_path: Path) -> None:
        cells = plan(load_suite(write_suite(sparsities="sparsities: [0.5]", methods="methods: [dense, magnitude]")))
        output = tmp_path / "out"

        def begun() -> list[str]:
            display = SilentDisplay()
            run_suite(cells, output, display, save_models=True)
            return display.begun

        run_suite(cells, output, SilentDisplay())
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


def test_sizes_are_tabled() -> None:
    saved = SavedFacts(dense_bytes=1000, sparse_bytes=330, bound_bytes=300)
    table = size_table([record().model_copy(update={"saved": saved}), record()])
    assert table.rows == (("stories", "wanda", "0.5", "0", "0.977 KiB", "330 B", "300 B", "0.330", "10.0 %"),)
