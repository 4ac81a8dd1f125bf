"""Gradients by window, the teacher, one method inside another, masks that are held."""

from typing import Any, ClassVar

import pytest
import torch
from prunebench_plugins.alps import ALPS
from prunebench_plugins.elsa import Elsa
from prunebench_plugins.magnitude import Magnitude
from prunebench_plugins.sparsegpt import SparseGPT
from prunebench_plugins.wanda import Wanda
from torch import Tensor

from prunebench.models.loading import load_on_disk
from prunebench.models.source import ModelSource
from prunebench.pruning import (
    NM,
    CalibrationData,
    FeatureMoments,
    FeatureNorm,
    Held,
    Unstructured,
    apply,
    calibrated,
    gradients,
    prunable,
)
from prunebench.pruning.callbacks import use_checkpointer, use_observer
from prunebench.pruning.walk import blocks
from prunebench.testing.trial import InterruptingCheckpointer, Interruption
from tests.helpers import tiny
from tests.helpers.layerwise import layer_of
from tests.helpers.observers import RecordingObserver

HALF = Unstructured(0.5)


class TestGradients:
    @pytest.mark.parametrize("name", tiny.MODELS)
    def test_by_transformers_own_loss_window_by_window(self, name: str) -> None:
        model, other, data = tiny.MODELS[name](), tiny.MODELS[name](), tiny.calibration(nsamples=3)
        found = gradients(model, data, HALF)
        expected: dict[str, Tensor] = {}
        for window in data.windows:
            other.zero_grad()
            other(input_ids=window[None], labels=window[None], use_cache=False).loss.backward()
            for layer, _ in prunable(other, HALF):
                gradient = torch.zeros_like(layer.parameter) if layer.parameter.grad is None else layer.parameter.grad
                expected[layer.name] = expected.get(layer.name, 0) + layer.view(gradient) ** 2 / 3
        assert found.keys() == expected.keys()
        for key, value in found.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-9)
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())

    def test_other_reductions(self) -> None:
        model, data = tiny.gpt2(), tiny.calibration(nsamples=2)
        mean, size = (gradients(model, data, HALF, reduce) for reduce in (torch.clone, torch.abs))
        assert all((size[key] >= mean[key].abs() - 1e-9).all() for key in mean)
        assert any((mean[key] < 0).any() for key in mean)

    def test_bf16_gives_fp32(self) -> None:
        found = gradients(tiny.llama().to(torch.bfloat16), tiny.calibration(nsamples=2), HALF)
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            expected = gradients(tiny.llama().to(torch.bfloat16).float(), tiny.calibration(nsamples=2), HALF)
        assert all(torch.equal(found[key], expected[key]) and found[key].dtype == torch.float32 for key in expected)

    def test_resuming(self) -> None:
        whole = gradients(tiny.llama(), tiny.calibration(), HALF)
        checkpointer = InterruptingCheckpointer(saves=5)
        with pytest.raises(Interruption), use_checkpointer(checkpointer):
            gradients(tiny.llama(), tiny.calibration(), HALF)
        with use_checkpointer(checkpointer), use_observer(heard := RecordingObserver()):
            resumed = gradients(tiny.llama(), tiny.calibration(), HALF)
        assert heard.steps[0][:2] == ("window", 4)  # the saves before windows 0 to 4
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)

    def test_a_model_on_disk_is_refused(self, tmp_path: Any) -> None:
        tiny.llama().save_pretrained(tmp_path / "model")
        model = load_on_disk(ModelSource("it", tmp_path / "model", None, ""), dtype="float32", work=tmp_path / "work")
        with pytest.raises(RuntimeError, match=r"blocks lie on disk cannot be trained as a whole: use device cpu"):
            gradients(model, tiny.calibration(), HALF)


class TestFeatureMoments:
    def test_of_tensors(self) -> None:
        X = torch.randn(70, 5, generator=torch.Generator().manual_seed(0)) * 0.1 + 1000
        moments, norm = FeatureMoments(layer_of(torch.zeros(2, 5))), FeatureNorm(layer_of(torch.zeros(2, 5)))
        for part in (X[:30], X[30:31], X[:0], X[31:]):
            moments.add(part)
            norm.add(part)
        torch.testing.assert_close(moments.mean.double(), X.double().mean(0), rtol=1e-6, atol=0)
        torch.testing.assert_close(moments.variance.double(), X.double().var(0, correction=0), rtol=1e-3, atol=0)
        assert torch.equal(moments.norm, norm.value)

    @pytest.mark.parametrize("name", ["llama", "gpt_oss"])
    def test_in_a_walk(self, name: str) -> None:
        norms = {
            layer.name: norm.value
            for layer, norm, _ in calibrated(tiny.MODELS[name](), tiny.calibration(), HALF, FeatureNorm)
        }
        for block in blocks(tiny.MODELS[name](), tiny.calibration(), HALF):
            for key, moments in block.statistics(FeatureMoments).items():
                assert torch.equal(moments.norm, norms[key])
                energy = (moments.variance + moments.mean.square()) * moments.tokens
                torch.testing.assert_close(energy.sqrt(), moments.norm, rtol=1e-3, atol=1e-5)


class TestTeacher:
    def test_it_is_made_when_it_is_first_asked_for(self) -> None:
        made: list[Any] = []

        def make() -> Any:
            made.append(tiny.llama().train())
            return made[-1]

        data = CalibrationData(tiny.tokens(), nsamples=2, seqlen=8, seed=0, teacher=make)
        digest = data.digest
        assert not made
        assert data.teacher is data.teacher is made[0]
        assert len(made) == 1
        assert not data.teacher.training
        assert not any(parameter.requires_grad for parameter in data.teacher.parameters())
        assert data.digest == digest

    def test_there_may_be_none(self) -> None:
        data = CalibrationData(tiny.tokens(), nsamples=2, seqlen=8, seed=0)
        with pytest.raises(RuntimeError, match="the dense model is asked for, and this calibration data comes without"):
            _ = data.teacher


class TestHeld:
    @pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
    @pytest.mark.parametrize("sparsity", [HALF, NM(2, 4)])
    @pytest.mark.parametrize("method", [Wanda(), SparseGPT(blocksize=8), ALPS(iterations=4)])
    def test_another_method_keeps_the_mask_that_is_there(self, name: str, sparsity: Any, method: Any) -> None:
        model = tiny.MODELS[name]()
        Magnitude().prune(model=model, sparsity=sparsity)
        before = {layer.name: layer.weight.clone() for layer, _ in prunable(model, sparsity)}
        for layer, target in prunable(model, Held(sparsity)):
            assert torch.equal(target.mask(torch.rand_like(layer.weight)), layer.weight != 0)
            assert target.zeros == int((layer.weight == 0).sum())
        method.prune(model=model, data=tiny.calibration(), sparsity=Held(sparsity))
        for layer, _ in prunable(model, sparsity):
            assert torch.equal(layer.weight != 0, before[layer.name] != 0)

    def test_it_reads_as_the_sparsity_itself(self) -> None:
        assert str(Held(NM(2, 4))) == "2:4"
        assert Held(HALF).ratio == 0.5


class Keeps:
    """Asks for masks with random scores."""

    mask: ClassVar = "held"

    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask(torch.rand(layer.shape)), 0)


class TestApply:
    def test_it_is_the_method_itself(self) -> None:
        one, other = tiny.llama(), tiny.llama()
        Wanda().prune(model=one, data=tiny.calibration(), sparsity=HALF)
        apply(Wanda(), other, tiny.calibration(), HALF)
        apply(Keeps(), other, tiny.calibration(), HALF)
        assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in one.state_dict().items())

    @pytest.mark.parametrize("saves", [2, 6, 9])
    def test_an_interrupted_pair_ends_with_the_same_bits(self, saves: int) -> None:
        """Two runs of one method, whose states have the same names."""

        def both(model: Any) -> None:
            for lr in (1e-2, 3e-3):
                apply(Elsa(steps=4, lr=lr, interval=2, batch_size=2), model, tiny.calibration(), HALF)
            apply(Wanda(), model, tiny.calibration(), HALF)

        whole, resumed, checkpointer = tiny.llama(), tiny.llama(), InterruptingCheckpointer(saves)
        both(whole)
        with pytest.raises(Interruption), use_checkpointer(checkpointer):
            both(tiny.llama())
        with use_checkpointer(checkpointer):
            both(resumed)
        assert all(torch.equal(tensor, resumed.state_dict()[key]) for key, tensor in whole.state_dict().items())
