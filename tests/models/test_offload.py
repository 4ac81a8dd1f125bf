"""Models on disk: what comes of them is what comes of them in memory, and no more than a block is ever there."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prunebench_plugins.sparsegpt import SparseGPT
from prunebench_plugins.wanda import Wanda
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from prunebench import hookimpl, load_sparse
from prunebench.contract.checks import Snapshot, watched
from prunebench.errors import ContractError, DeviceError, ModelError, OutputError
from prunebench.models.digest import weights_digest
from prunebench.models.loading import load_model, load_on_disk
from prunebench.models.source import ModelSource, find_model
from prunebench.pruning import FeatureNorm, Sparsity, Unstructured, buffers, calibrated, prunable
from prunebench.pruning.layers import decoder_blocks
from prunebench.pruning.offload import resident, resident_tensors, written_back
from prunebench.records.record import Record
from prunebench.records.store import read_arrays
from prunebench.report.sections import all_tables
from prunebench.runner.forecast import forecast_cells
from prunebench.runner.in_process import run_cell
from prunebench.runner.resources import Resources
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from prunebench.testing.live_bytes import LiveBytes
from prunebench.testing.models import MODELS
from tests.helpers import tiny
from tests.helpers.observers import SilentDisplay

Write = Callable[..., Path]


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[..., PreTrainedModel]:
    """Save a model and load it again with its blocks on disk."""

    def load(model: PreTrainedModel, dtype: str = "float32") -> PreTrainedModel:
        model.save_pretrained(tmp_path / "model")
        return load_on_disk(ModelSource("it", tmp_path / "model", None, ""), dtype=dtype, work=tmp_path / "work")

    return load


@pytest.fixture
def suite_of(world: Path, tmp_path: Path, write_suite: Write) -> Write:
    """A suite over one of the tiny models."""

    def write(name: str, **lines: str) -> Path:
        folder = tmp_path / name
        if not folder.exists():
            shutil.copytree(world / "model", folder, ignore=shutil.ignore_patterns("*.safetensors"))
            MODELS[name]().save_pretrained(folder)
        return write_suite(models=f"models: [{folder}]", **lines)

    return write


def run(suite: Path, output: Path, device: str, **options: Any) -> tuple[list[Record], list[dict[str, np.ndarray]]]:
    cells = plan(load_suite(suite), device=device)
    records = run_suite(cells, output, SilentDisplay(), **options)
    assert [record.error for record in records] == [None] * len(records)
    return records, [read_arrays(output / f"{record.cell.id}.json") for record in records]


def same_outcome(one: Path, tmp_path: Path) -> None:
    here, arrays = run(one, tmp_path / "memory", "cpu")
    there, others = run(one, tmp_path / "disk", "disk")
    for record, other in zip(here, there, strict=True):
        assert record.cell.id == other.cell.id
        assert record.sparsity == other.sparsity
        assert record.perplexity == other.perplexity
        assert record.notes == other.notes
        assert record.cost.tokens_seen == other.cost.tokens_seen
        assert record.environment["weights_digest"] == other.environment["weights_digest"]
    for mine, theirs in zip(arrays, others, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert not [path for path in (tmp_path / "disk").iterdir() if path.name.startswith(".")]


class TestTheSameAsInMemory:
    @pytest.mark.parametrize("name", ["llama", "opt", "gpt2", "mixtral"])
    def test_to_the_bit(self, name: str, suite_of: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("prunebench.pruning.walk.TOKENS_PER_CALL", 48)  # several batches, the last smaller
        monkeypatch.setattr("prunebench.evaluation.perplexity.MAX_BATCH_TOKENS", 100)
        monkeypatch.setattr(buffers, "FILE_THRESHOLD", 0)
        lines = {"sparsities": "sparsities: [0.5]" if name != "opt" else "sparsities: [2:4]"}
        same_outcome(suite_of(name, methods="methods: [dense, magnitude, wanda, sparsegpt]", **lines), tmp_path)

    def test_allocations(self, suite_of: Write, tmp_path: Path) -> None:
        lines = {"sparsities": "sparsities: [0.7]", "allocation": "allocation: [owl, magnitude-global]"}
        same_outcome(suite_of("qwen3", methods="methods: [wanda]", **lines), tmp_path)

    @pytest.mark.parametrize(
        ("name", "dtype"),
        [
            *((name, "float32") for name in ("llama3", "opt", "gpt2", "gemma3", "neox", "mixtral", "qwen2_moe")),
            *((name, "bfloat16") for name in ("llama", "gpt_oss")),  # gpt-oss keeps some parameters in fp32
        ],
    )
    def test_loading(self, name: str, dtype: str, on_disk: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
        model = on_disk(MODELS[name](), dtype)
        other = type(model).from_pretrained(tmp_path / "model", dtype=getattr(torch, dtype))
        assert weights_digest(model) == weights_digest(other)
        buffers = dict(other.named_buffers())
        assert {key: value.dtype for key, value in model.named_buffers()} == {k: b.dtype for k, b in buffers.items()}
        assert all(torch.equal(value, buffers[key]) for key, value in model.named_buffers())


class TestOneBlockAtATime:
    def test_no_other_is_in_memory(self, on_disk: Callable[..., PreTrainedModel]) -> None:
        model = on_disk(tiny.llama())
        blocks = decoder_blocks(model)

        def there() -> list[int]:
            return [i for i, block in enumerate(blocks) if not any(p.is_meta for p in block.parameters())]

        seen: list[int] = []
        for walk in (
            calibrated(model, tiny.calibration(), Unstructured(0.5), FeatureNorm),
            prunable(model, Unstructured(0.5)),
        ):
            for layer, *_ in walk:
                (block,) = there()
                assert layer.name.startswith(f"model.layers.{block}.")
                seen += [block]
        assert sorted(set(seen)) == [0, 1, 2]
        assert there() == []

    def test_asked_for_twice_it_stays_until_both_are_done(self, on_disk: Callable[..., PreTrainedModel]) -> None:
        model = on_disk(tiny.llama())
        block = decoder_blocks(model)[1]
        with resident(model, 1):
            with resident(model, 1):
                first = next(block.parameters())
            assert next(block.parameters()) is first
        assert next(block.parameters()).is_meta

    def test_names_in_any_order_are_found(self, on_disk: Callable[..., PreTrainedModel]) -> None:
        original = tiny.llama()
        state, model = original.state_dict(), on_disk(original)
        for name, tensor in resident_tensors(model, sorted(state, key=lambda name: name[::-1])):
            assert torch.equal(tensor, state[name])

    @pytest.mark.parametrize("method", [Wanda(), SparseGPT()])
    def test_memory_does_not_grow_with_the_blocks(self, method: Any, tmp_path: Path) -> None:
        peaks = []
        for blocks in (2, 8):
            model = _llama_of(blocks)
            folder = tmp_path / str(blocks)
            model.save_pretrained(folder / "model")
            model = load_on_disk(ModelSource("it", folder / "model", None, ""), dtype="float32", work=folder / "work")
            with LiveBytes([*model.parameters(), *model.buffers()]) as live, written_back(model):
                method.prune(model=model, data=tiny.calibration(), sparsity=Unstructured(0.5))
            peaks.append(live.peak)
        assert peaks[0] > 0
        assert peaks[1] <= 1.05 * peaks[0]

    def test_a_layer_of_a_block_that_is_gone_holds_nothing(self, on_disk: Callable[..., PreTrainedModel]) -> None:
        layer, target = next(iter(list(prunable(on_disk(tiny.llama()), Unstructured(0.5)))))
        assert layer.shape == (32, 32)
        assert layer.parameter.untyped_storage().nbytes() == 4
        with pytest.raises(ValueError, match="NaN"):
            target.mask(layer.weight.abs())


def _llama_of(blocks: int) -> PreTrainedModel:
    model = tiny.llama()
    config = model.config
    config.num_hidden_layers = blocks
    with torch.random.fork_rng():
        torch.manual_seed(0)
        grown: PreTrainedModel = type(model)(config)
    return grown.eval()


@dataclass(frozen=True)
class Forgets:
    """Prunes all but the last block."""

    @hookimpl
    def prune(self, model: nn.Module, sparsity: Sparsity) -> None:
        for layer, target in prunable(model, sparsity):
            if not layer.name.startswith("model.layers.2."):
                layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)


@dataclass(frozen=True)
class TouchesANorm:
    """Changes what it may not."""

    @hookimpl
    def prune(self, model: nn.Module, sparsity: Sparsity) -> None:
        for layer, target in prunable(model, sparsity):
            layer.parameter.data.mul_(target.mask(layer.weight.abs()))  # behind the back of version counters
            norm = decoder_blocks(model)[0].input_layernorm.weight
            if not norm.is_meta:
                norm.data[0] = 2


class TestTheCheck:
    @pytest.mark.parametrize(
        ("method", "words"),
        [
            (Forgets(), "model.layers.2.self_attn.q_proj holds 0 zeros where 512"),
            (TouchesANorm(), "model.layers.0.input_layernorm.weight was changed"),
        ],
    )
    def test_looks_at_what_was_written(self, method: Any, words: str, on_disk: Callable[..., PreTrainedModel]) -> None:
        model, sparsity = on_disk(tiny.llama()), Unstructured(0.5)
        before = Snapshot.of(model, sparsity, "prunable")
        with watched() as watch, written_back(model):
            method.prune(model=model, sparsity=sparsity)
        with pytest.raises(ContractError, match=words):
            before.verify(model, watch=watch)

    def test_nothing_is_written_unless_it_is_to_be_kept(self, on_disk: Callable[..., PreTrainedModel]) -> None:
        model = on_disk(tiny.llama())
        before = weights_digest(model)
        for layer, _ in prunable(model, Unstructured(0.5)):
            layer.weight.zero_()
        assert weights_digest(model) == before

    def test_a_missing_weight_is_named(self, tmp_path: Path) -> None:
        tiny.llama().save_pretrained(tmp_path / "model")
        file = tmp_path / "model" / "model.safetensors"
        tensors = load_file(file)
        for lost in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
            save_file({name: tensor for name, tensor in tensors.items() if name != lost}, file)
            with pytest.raises(ModelError, match=f"it is incomplete: 1 weights are missing, {lost} for one"):
                self.all_of(ModelSource("it", tmp_path / "model", None, ""), tmp_path / lost)

    def all_of(self, source: ModelSource, work: Path) -> str:
        return weights_digest(load_on_disk(source, dtype="float32", work=work))


class TestPlanning:
    def test_a_method_that_changes_all_is_refused(self, suite_of: Write) -> None:
        with pytest.raises(DeviceError, match="'elsa' changes all of a model at once, which device 'disk' of 'llama'"):
            plan(load_suite(suite_of("llama", methods="methods: [wanda, elsa]")), device="disk")
        assert plan(load_suite(suite_of("llama", methods="methods: [wanda, elsa]")), device="disk", only=["wanda"])

    def test_too_little_room_is_told_before_anything_runs(
        self, suite_of: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        display, suite = SilentDisplay(), suite_of("llama", methods="methods: [wanda]")
        usage = shutil.disk_usage(tmp_path)._replace(free=50_000)
        monkeypatch.setattr("prunebench.runner.disk_space.shutil.disk_usage", lambda path: usage)
        weights = sum(parameter.nbytes for parameter in tiny.llama().parameters())
        needed = weights + 480 * 32 * 4  # hidden states of the test text, which is the longer one
        for save_models, bytes_ in ((False, needed), (True, needed + 4 * weights)):  # two cells
            with pytest.raises(OutputError, match=rf"need {bytes_:,} bytes under .*, whose disk has 50,000: make room"):
                run_suite(plan(load_suite(suite), device="disk"), tmp_path / "out", display, save_models=save_models)
        assert display.begun == []
        run_suite(plan(load_suite(suite), device="cpu"), tmp_path / "out", display)
        assert len(display.begun) == 2

    def test_a_forecast(self, suite_of: Write, tmp_path: Path) -> None:
        cells = plan(load_suite(suite_of("llama", methods="methods: [dense, wanda]")), device="disk")
        said: list[str] = []
        found = forecast_cells(cells, Resources(output=tmp_path), tell=said.append)
        assert all(forecast.prune_seconds is not None and forecast.evaluate_seconds for forecast in found)
        assert not [line for line in said if "warning" in line]
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


class TestWhatNeedsAWholeModel:
    def test_zero_shot_is_passed_over_noted_and_shown_as_missing(self, suite_of: Write, tmp_path: Path) -> None:
        task = {"task": "letters", "dataset_path": "json", "output_type": "multiple_choice"}
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "letters.yaml").write_text(json.dumps(task))
        zero_shot = f"{{name: zero_shot, tasks: [letters], include_path: {tmp_path / 'tasks'}}}"
        lines = {
            "sparsities": "sparsities: [0.5]",
            "methods": "methods: [magnitude]",
            "evaluations": f"evaluations: [{zero_shot}]",
        }
        suite = load_suite(suite_of("llama", **lines))
        (cell,), (other,) = plan(suite, device="disk"), plan(suite, device="cpu")
        assert cell.id != other.id
        record, _ = run_cell(cell, Resources(output=tmp_path), SilentDisplay())
        assert record.status == "ok"
        assert record.zero_shot == {}
        assert record.notes == {"an evaluation that needs the whole model in memory was skipped": 1}
        table = next(table for table in all_tables([record]) if "Zero-shot" in table.caption)
        assert table.headers == ("method", "sparsity", "letters")
        assert table.rows == (("magnitude", "0.5", "–"),)


class TestSavedModels:
    @pytest.mark.parametrize("name", ["llama", "mixtral"])
    def test_both_forms_are_those_of_a_model_in_memory(self, name: str, suite_of: Write, tmp_path: Path) -> None:
        suite = suite_of(name, methods="methods: [wanda]", sparsities="sparsities: [0.9]")
        suite.write_text(
            suite.read_text().replace(f"[{tmp_path / name}]", f"[{{id: {tmp_path / name}, dtype: bfloat16}}]")
        )
        found = {}
        for device in ("cpu", "disk"):
            output = tmp_path / device
            (record,), _ = run(suite, output, device, save_models=True)
            assert record.saved is not None
            dense, _ = load_model(find_model(str(output / "models" / record.cell.id)), dtype="auto", device="cpu")
            compact = load_sparse(output / "sparse" / record.cell.id)
            config = json.loads((output / "models" / record.cell.id / "config.json").read_text())
            found[device] = record.saved.sparse_bytes, record.saved.bound_bytes, weights_digest(dense), config
            assert weights_digest(compact) == record.environment["weights_digest"] == weights_digest(dense)
            assert [path.name for path in output.iterdir() if path.name.startswith(".")] == []
        assert found["cpu"] == found["disk"]
        assert len(list((tmp_path / "disk" / "models" / record.cell.id).glob("*.safetensors"))) == 4
