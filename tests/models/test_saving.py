"""Saved models come back bit for bit, in either form, and say what they are."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from prunebench import load_sparse
from prunebench.errors import OutputError
from prunebench.files import Abandoned
from prunebench.models.digest import weights_digest
from prunebench.models.loading import load_model
from prunebench.models.saving import is_saved, save_checkpoints
from prunebench.models.source import find_model
from prunebench.pruning import NM, Unstructured, prunable
from prunebench.records.merge import merge_records
from prunebench.records.record import Record, SavedFacts
from prunebench.records.saved_models import altered_models
from prunebench.records.store import read_record, read_records, write_record
from prunebench.report.output.model_card import write_cards
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


class TestUnit:
    """A saved model belongs to a record: the old one stays until a new record names the new one."""

    @pytest.fixture
    def saved(self, tmp_path: Path) -> Record:
        return self.save(tmp_path, 0.5)

    def save(self, folder: Path, ratio: float, **changes: object) -> Record:
        model = pruned(tiny.llama(), Unstructured(ratio))
        name = record().cell.id
        facts = save_checkpoints(model, tokenizer(), folder, name, Unstructured(ratio))
        made = record().model_copy(update={"saved": facts, **changes})
        return read_record(write_record(folder, made, {}))

    def test_the_record_holds_its_digest(self, tmp_path: Path, saved: Record) -> None:
        name = saved.cell.id
        assert saved.saved is not None
        assert {form: one.folder for form, one in saved.saved.forms.items()} == {"models": name, "sparse": name}
        assert is_saved(tmp_path, saved)
        assert altered_models(tmp_path, saved) == []
        write_cards(tmp_path, [saved])
        assert is_saved(tmp_path, saved)  # a card is no part of it

    @pytest.mark.parametrize("form", ["models", "sparse"])
    @pytest.mark.parametrize("harm", ["altered", "cut", "file gone", "file more", "gone", "link", "link inside"])
    def test_harm_is_noticed(self, tmp_path: Path, saved: Record, form: str, harm: str) -> None:
        folder = tmp_path / form / saved.cell.id
        weights = next(folder.glob("*.safetensors"))
        content = weights.read_bytes()
        if harm in ("altered", "cut"):
            weights.write_bytes(content[:-1] + (b"" if harm == "cut" else bytes([content[-1] ^ 1])))
        elif harm == "file gone":
            (folder / "tokenizer_config.json").unlink()
        elif harm == "file more":
            (folder / "adapter_config.json").write_text("{}")
        elif harm == "link inside":
            weights.rename(tmp_path / "elsewhere")
            weights.symlink_to(tmp_path / "elsewhere")
        else:
            folder.rename(tmp_path / "elsewhere")
            if harm == "link":
                folder.symlink_to(tmp_path / "elsewhere")
        assert not is_saved(tmp_path, saved)
        messages = altered_models(tmp_path, saved)
        assert [str(folder) in message for message in messages] == ([] if harm == "gone" else [True])
        shown = prunebench("report", tmp_path)
        assert shown.exit_code == 0
        assert ("no saved model" in shown.stderr or "altered after" in shown.stderr) == (harm != "gone")
        if harm != "gone":
            with pytest.raises(OutputError, match="remove it, or run the suite again with --save-models"):
                merge_records([tmp_path], tmp_path / "merged")
            assert not (tmp_path / "merged").exists()

    def test_until_the_record_is_written_the_old_model_is_there(self, tmp_path: Path, saved: Record) -> None:
        model, name = pruned(tiny.llama(), Unstructured(0.9)), saved.cell.id
        facts = save_checkpoints(model, tokenizer(), tmp_path, name, Unstructured(0.9))
        assert is_saved(tmp_path, saved)
        new = saved.model_copy(update={"saved": facts})
        assert is_saved(tmp_path, new)
        write_record(tmp_path, new, {})
        assert not is_saved(tmp_path, saved)
        assert is_saved(tmp_path, new)
        for form in ("models", "sparse"):
            assert [path.name for path in (tmp_path / form).iterdir()] == [facts.forms[form].folder]  # type: ignore[index]
        again = self.save(tmp_path, 0.5)
        assert again.saved == saved.saved
        assert is_saved(tmp_path, again)

    def test_the_same_model_again_is_the_same_folder(self, tmp_path: Path, saved: Record) -> None:
        assert self.save(tmp_path, 0.5).saved == saved.saved
        assert [path.name for path in (tmp_path / "models").iterdir()] == [saved.cell.id]

    def test_a_record_without_a_model_leaves_the_old_one(self, tmp_path: Path, saved: Record) -> None:
        write_record(tmp_path, saved.model_copy(update={"saved": None}), {})
        assert (tmp_path / "models" / saved.cell.id).is_dir()

    def test_what_an_interrupted_attempt_left_is_replaced(self, tmp_path: Path) -> None:
        name = record().cell.id
        left = tmp_path / "models" / name
        left.mkdir(parents=True)
        (left / "junk").write_text("x")
        (tmp_path / "models" / f".{name}.12345.tmp").mkdir()
        made = self.save(tmp_path, 0.5)
        assert is_saved(tmp_path, made)
        assert [path.name for path in (tmp_path / "models").iterdir()] == [name]

    def test_a_folder_that_is_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "sparse").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match="sparse is a symbolic link; remove it"):
            self.save(tmp_path, 0.5)
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_whoever_lost_the_cell_replaces_nothing(self, tmp_path: Path, saved: Record) -> None:
        model = pruned(tiny.llama(), Unstructured(0.9))
        with pytest.raises(Abandoned):
            save_checkpoints(model, tokenizer(), tmp_path, saved.cell.id, Unstructured(0.9), fence=lambda: False)
        assert is_saved(tmp_path, saved)

    def test_merge_copies_what_the_record_names(self, tmp_path: Path, saved: Record) -> None:
        newer = self.save(tmp_path, 0.9)
        merge_records([tmp_path], tmp_path / "merged")
        (found,) = read_records(tmp_path / "merged")
        assert found == newer
        assert is_saved(tmp_path / "merged", found)


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
