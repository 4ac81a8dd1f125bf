"""The contract on many families: what people download is pruned exactly, and nothing but its matrices."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prunebench_plugins.elsa import Elsa
from prunebench_plugins.magnitude import Magnitude
from prunebench_plugins.sparsegpt import SparseGPT
from torch import nn
from transformers import PreTrainedModel

from prunebench.contract.checks import Snapshot
from prunebench.models.loading import load_on_disk
from prunebench.models.source import ModelSource
from prunebench.pruning import NM, CalibrationData, Held, Pattern, Unstructured, prunable
from prunebench.pruning.nested import HELD
from prunebench.pruning.offload import resident_tensors, written_back
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.testing.models import prune_by_magnitude
from tests.helpers import tiny
from tests.helpers.families import FAMILIES, PLAIN, PLAIN_MATRICES, WRAPPERS, build, build_wrapper

HALF = Unstructured(0.5)
ONE_SHOT_AND_TRAINED = [SparseGPT(), Elsa(steps=2, interval=1, batch_size=2)]
QUICK: dict[str, dict[str, Any]] = {
    "admm": {"iterations": 4, "ramp": 3},
    "alps": {"iterations": 6, "steps": 2},
    "elsa": {"steps": 2, "interval": 1, "batch_size": 2},
    "elsa-l": {"steps": 2, "interval": 1, "batch_size": 2},
    "gmp": {"steps": 2, "interval": 1, "batch_size": 2},
    "retrain": {"steps": 2, "batch_size": 2},
    "perp": {"steps": 2, "batch_size": 2, "rank": 2},
    "reconstruct": {"epochs": 2},
    "swaps": {"swaps": 2},
    "maskllm": {"steps": 2, "batch_size": 2},
    "safe": {"epochs": 2, "interval": 1},
}
METHODS = (
    *("magnitude", "wanda", "ria", "gblm", "sparsegpt", "admm", "alps", "safe", "maskllm", "elsa", "elsa-l", "gmp"),
    *("retrain", "perp", "reconstruct", "swaps"),
)
FOUR: dict[str, Callable[[], PreTrainedModel]] = {
    **{name: tiny.MODELS[name] for name in ("llama", "gpt2", "mixtral")},
    "granitemoehybrid": lambda: build("granitemoehybrid"),
}


def data(teacher: Callable[[], nn.Module] | None = None) -> CalibrationData:
    pool = torch.randint(3, 60, (2000,), generator=torch.Generator().manual_seed(0))
    return CalibrationData(pool, nsamples=6, seqlen=24, seed=0, teacher=teacher)


def half_is_zero(model: nn.Module) -> bool:
    """Whether every matrix holds exactly the zeros asked for."""
    return all(int((layer.weight == 0).sum()) == target.zeros for layer, target in prunable(model, HALF))


@pytest.mark.parametrize("family", PLAIN)
class TestPlainDecoders:
    def test_each_matrix_is_pruned_and_nothing_else(self, family: str) -> None:
        model = build(family)
        before = copy.deepcopy(model.state_dict())
        Magnitude().prune(model=model, sparsity=HALF)
        layers = [layer for layer, _ in prunable(model, HALF)]
        assert len(layers) == PLAIN_MATRICES[family]
        assert half_is_zero(model)
        pruned = {id(layer.parameter) for layer in layers}
        for name, parameter in model.named_parameters():
            assert (id(parameter) in pruned) is not torch.equal(parameter, before[name]), name

    @pytest.mark.parametrize("method", ONE_SHOT_AND_TRAINED, ids=["sparsegpt", "elsa"])
    def test_inputs_are_seen_and_losses_followed(self, family: str, method: Any) -> None:
        model = build(family)
        method.prune(model=model, data=data(), sparsity=HALF)
        assert half_is_zero(model)
        assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


@pytest.mark.parametrize("family", WRAPPERS)
@pytest.mark.parametrize("method", [Magnitude(), *ONE_SHOT_AND_TRAINED], ids=["magnitude", "sparsegpt", "elsa"])
def test_a_wrappers_text_decoder_is_pruned_and_its_vision_tower_left_alone(family: str, method: Any) -> None:
    model = build_wrapper(family)
    before = copy.deepcopy(model.state_dict())
    given = {} if isinstance(method, Magnitude) else {"data": data()}
    method.prune(model=model, sparsity=HALF, **given)
    assert half_is_zero(model)
    assert all(".language_model." in f".{layer.name}" for layer, _ in prunable(model, HALF))
    seen = [name for name in before if "vision" in name or "visual" in name]
    assert seen
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in seen)


def prune_by(name: str, build: Callable[[], PreTrainedModel]) -> None:
    """Run a method as the runner would, and verify what it left; one that follows another sees a sparse model."""
    method, model = load_method(name), build()
    pattern: Pattern = HALF if method.is_for(HALF) else NM(1, 2)
    if method.after:
        prune_by_magnitude(model, pattern)
    sparsity: Any = Held(pattern) if method.mask == HELD else pattern
    before = Snapshot.of(model, sparsity, method.changes)
    plugin_manager(method, QUICK.get(name, {})).hook.prune(model=model, data=data(build), sparsity=sparsity)
    before.verify(model)


@pytest.mark.parametrize("family", FOUR)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_contract(name: str, family: str) -> None:
    prune_by(name, FOUR[family])


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *PLAIN])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_every_family(name: str, family: str) -> None:
    prune_by(name, lambda: build(family))


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, *PLAIN, *WRAPPERS])
@pytest.mark.parametrize("method", [Magnitude(), SparseGPT()], ids=["magnitude", "sparsegpt"])
def test_with_its_blocks_on_disk_it_is_the_same(family: str, method: Any, tmp_path: Path) -> None:
    model = build_wrapper(family) if family in WRAPPERS else build(family)
    model.save_pretrained(tmp_path / "model")
    on_disk = load_on_disk(ModelSource(family, tmp_path / "model", None, ""), dtype="float32", work=tmp_path / "work")
    given = {} if isinstance(method, Magnitude) else {"data": data()}
    method.prune(model=model, sparsity=HALF, **given)
    with written_back(on_disk):
        method.prune(model=on_disk, sparsity=HALF, **given)
    expected = model.state_dict()
    for name, tensor in resident_tensors(on_disk, sorted(expected)):
        assert torch.equal(tensor, expected[name]), name
