"""``retrain``, ``gmp`` and ``perp`` against their papers' formulas, in half precision, and with wrong options."""

from typing import Any

import pytest
import torch
from prunebench_plugins.elsa import Elsa, ElsaL
from prunebench_plugins.gmp import GMP, ramped_share
from prunebench_plugins.perp import PERP, adapted, lora, small_parameters
from prunebench_plugins.retrain import Retrain
from torch import Tensor, nn

from prunebench.pruning import CalibrationData, Held, Unstructured, language_loss, masks, prunable
from prunebench.pruning.callbacks import use_checkpointer, use_observer
from prunebench.pruning.sparsity import parse_pattern
from prunebench.testing.models import prune_by_magnitude
from prunebench.testing.trial import InterruptingCheckpointer, Interruption
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver
from tests.oracles.adamw import adamw_textbook
from tests.oracles.training import adapted_textbook, gmp_textbook, linears

HALF = Unstructured(0.5)
QUICK: dict[str, Any] = {"steps": 6, "lr": 1e-3, "batch_size": 2}


def sparse(name: str = "llama", pattern: str = "0.5", dtype: torch.dtype = torch.float32) -> Any:
    model = tiny.MODELS[name]().to(dtype)
    prune_by_magnitude(model, parse_pattern(pattern))
    return model


def follow(method: Any, model: Any, pattern: str = "0.5", data: CalibrationData | None = None) -> None:
    method.prune(model=model, data=data or tiny.calibration(), sparsity=Held(parse_pattern(pattern)))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().float().flatten() for parameter in model.parameters()])


FOLLOWERS = [Retrain(**QUICK), PERP(**QUICK, rank=3)]


PRUNABLE_ALONE = {
    "retrain": Retrain(**QUICK, only="prunable"),
    "perp": PERP(**QUICK, rank=3, parts=("adapters",)),
    "gmp": GMP(**QUICK, interval=2, only="prunable"),
    "elsa": Elsa(**QUICK, interval=2, only="prunable"),
    "elsa-l": ElsaL(**QUICK, interval=2, only="prunable"),
}


@pytest.mark.parametrize("name", PRUNABLE_ALONE)
@pytest.mark.parametrize("architecture", ["llama", "opt", "gpt2", "mixtral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_pruned_matrices_alone_are_trained(name: str, architecture: str, dtype: torch.dtype) -> None:
    model = sparse(architecture, dtype=dtype)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    follow(PRUNABLE_ALONE[name], model)
    changed = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    matrices = {layer.parameter for layer, _ in prunable(model, HALF)}
    assert changed == {key for key, parameter in model.named_parameters() if parameter in matrices}


class TestBoth:
    @pytest.mark.parametrize("method", FOLLOWERS, ids=["retrain", "perp"])
    @pytest.mark.parametrize("pattern", ["0.83", "2:4"])
    @pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mixtral", "gpt_oss"])
    def test_masks_keep_exact_zeros(self, method: Any, pattern: str, name: str) -> None:
        model = sparse(name, pattern)
        before = {layer.name: layer.weight.clone() for layer, _ in prunable(model, HALF)}
        follow(method, model, pattern)
        for layer, _ in prunable(model, HALF):
            assert torch.equal(layer.weight == 0, before[layer.name] == 0)

    @pytest.mark.parametrize("method", [Retrain(steps=0), PERP(steps=0)], ids=["retrain", "perp"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_no_step_leaves_the_model_as_it_was(self, method: Any, dtype: torch.dtype) -> None:
        model, other = sparse(dtype=dtype), sparse(dtype=dtype)
        follow(method, model)
        assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in model.state_dict().items())


class TestRetrain:
    def test_it_is_adamw_with_fixed_masks(self) -> None:
        model, other, data = sparse(), sparse(), tiny.calibration()
        follow(Retrain(**QUICK), model)
        held = masks(layer.weight for layer in linears(other))

        def loss(t: int) -> Tensor:
            batch = next(data.batches(2, t))
            result: Tensor = other(input_ids=batch, labels=batch, use_cache=False).loss
            return result

        adamw_textbook(loss, list(other.parameters()), steps=6, lr=1e-3, masks=held)
        torch.testing.assert_close(weights(model), weights(other), rtol=1e-4, atol=1e-5)
        assert (weights(model) - weights(sparse())).abs().max() > 1e-3

    def test_distillation_draws_it_to_the_dense_model(self) -> None:
        def distance(model: Any) -> float:
            p, q = (m(input_ids=tiny.calibration().windows).logits.softmax(-1) for m in (tiny.llama(), model))
            return float((p * (p / q).log()).sum(-1).mean())

        model, data = sparse(), tiny.calibration(teacher=tiny.llama)
        with torch.no_grad():
            before = distance(model)
        follow(Retrain(steps=30, lr=3e-3, batch_size=4, loss="distillation"), model, data=data)
        with torch.no_grad():
            assert distance(model) < 0.8 * before

    def test_windows_are_counted_as_they_are_drawn(self) -> None:
        data = tiny.calibration()
        follow(Retrain(**QUICK), sparse(), data=data)
        assert data.tokens_seen == 6 * 2 * 24


class TestGMP:
    def test_against_the_papers_formula(self) -> None:
        """Every matrix has an even number of weights, and no share falls between two counts."""
        ours, theirs, data = tiny.llama(), tiny.llama(), tiny.calibration()
        GMP(steps=10, lr=1e-2, batch_size=2, interval=2, ramp=0.8).prune(model=ours, data=data, sparsity=HALF)
        batches = [next(data.batches(2, t)) for t in range(10)]
        shares = gmp_textbook(theirs, batches, lr=1e-2, sparsity=0.5, interval=2, prunings=4)
        expected = [0, *[0.5 * (1 - (1 - k / 4) ** 3) for k in (1, 1, 2, 2, 3, 3, 4, 4, 4)]]
        assert shares == pytest.approx(expected, abs=1e-3)
        zeros = [(a.weight == 0) == (b.weight == 0) for a, b in zip(linears(ours), linears(theirs), strict=True)]
        assert torch.cat([each.flatten() for each in zeros]).float().mean() > 0.999
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-3, atol=1e-4)

    def test_the_ramp(self) -> None:
        assert [ramped_share(k, 2) for k in range(3)] == [0, 0.875, 1]

    def test_it_learns_what_magnitude_loses(self) -> None:
        """On text with a rule to it, at four fifths."""
        data = CalibrationData(torch.arange(1, 9).repeat(500), nsamples=4, seqlen=24, seed=0)
        model = tiny.llama()
        GMP(steps=60, lr=2e-2, batch_size=4, interval=2).prune(model=model, data=data, sparsity=Unstructured(0.8))
        with torch.no_grad():
            assert language_loss(model, data.windows) < 0.1 < 4 < language_loss(sparse(pattern="0.8"), data.windows)


class TestPERP:
    def test_a_model_without_the_parts_is_refused(self) -> None:
        with pytest.raises(ValueError, match="the model has no biases to train"):
            follow(PERP(**QUICK, parts=("biases",)), sparse())

    def test_merged_equals_unmerged_in_outputs(self) -> None:
        model, apart = sparse(), sparse()
        layers, generator = [layer for layer, _ in prunable(model, HALF)], torch.Generator().manual_seed(1)
        adapters = {layer.name: lora(layer, 3, generator) for layer in layers}
        for B, _ in adapters.values():
            B.normal_(generator=generator)
        merged = adapted(layers, adapters, 0.5)
        for layer in layers:
            layer.weight.copy_(merged[layer.name])
        adapted_textbook(apart, [adapters[layer.name] for layer in layers], 0.5)
        windows = tiny.calibration().windows
        with torch.no_grad():
            one, other = (each(input_ids=windows, use_cache=False).logits for each in (model, apart))
            assert (one - sparse()(input_ids=windows, use_cache=False).logits).abs().max() > 0.1
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)

    def test_it_is_adamw_on_masked_adapters_biases_and_norms(self) -> None:
        """10 steps, of which one warms up, by torch's optimizer on a model whose adapters stay apart."""
        model, other, data = sparse(), sparse(), tiny.calibration()
        layers, generator = [layer for layer, _ in prunable(other, HALF)], torch.Generator().manual_seed(0)
        pairs = [lora(layer, 3, generator) for layer in layers]
        follow(PERP(steps=10, lr=1e-2, batch_size=2, rank=3, alpha=6), model)
        modules = adapted_textbook(other, pairs, 2.0)
        norms = [parameter for name, parameter in other.named_parameters() if "norm" in name]
        trained = [*(part for module in modules for part in (module.B, module.A)), *norms]
        optimizer = torch.optim.AdamW(trained, lr=1e-2, betas=(0.9, 0.999), weight_decay=0.0)
        for t in range(10):
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 if t == 0 else 1 - (t - 1) / 9)
            optimizer.zero_grad()
            batch = next(data.batches(2, t))
            other(input_ids=batch, labels=batch, use_cache=False).loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        for ours, theirs in zip(linears(model), linears(other), strict=True):
            torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-3, atol=1e-4)
        assert len(norms) == 7
        assert not torch.equal(model.model.norm.weight, sparse().model.norm.weight)

    @pytest.mark.parametrize(
        ("parts", "words"), [(("biases",), ("bias",)), (("norms",), ("ln_",)), (("biases", "norms"), ("bias", "ln_"))]
    )
    def test_some_parts_alone(self, parts: tuple[str, ...], words: tuple[str, ...]) -> None:
        model, before = sparse("gpt2"), sparse("gpt2").state_dict()
        follow(PERP(**QUICK, parts=parts), model)
        changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
        named = {key for key, _ in model.named_parameters() if any(word in key for word in words)}
        if parts == ("norms",):
            named = {key for key in named if not key.endswith("bias")}
        assert changed == named

    def test_small_parameters_of_experts(self) -> None:
        model = tiny.MODELS["gpt_oss"]()
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        found = [names[id(parameter)] for parameter in small_parameters(model, ("biases",))]
        assert sum("experts" in name for name in found) == 3 * 2
        assert all(name.endswith("bias") for name in found)


@pytest.mark.parametrize("method", [Retrain(**QUICK), GMP(**QUICK, interval=1), PERP(**QUICK)])
def test_an_interrupted_run_ends_with_the_same_bits(method: Any) -> None:
    start = tiny.llama if isinstance(method, GMP) else sparse
    whole, resumed, checkpointer = start(), start(), InterruptingCheckpointer(saves=4)
    follow(method, whole)
    with pytest.raises(Interruption), use_checkpointer(checkpointer):
        follow(method, start())
    with use_checkpointer(checkpointer), use_observer(heard := RecordingObserver()):
        follow(method, resumed)
    assert heard.steps[0][:2] == ("step", 3)
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize("method", ["gmp", "retrain", "perp"])
def test_bf16_is_within_two_per_cent_of_fp32(method: str) -> None:
    """Steps of 1e-3 on weights of some 0.1 and more: a plain AdamW on bf16 weights would lose most of them."""
    settings: dict[str, Any] = {"steps": 60, "lr": 1e-3, "batch_size": 4}
    made = {"gmp": GMP(**settings, interval=5), "retrain": Retrain(**settings), "perp": PERP(**settings)}[method]
    data = CalibrationData(torch.arange(1, 9).repeat(500), nsamples=4, seqlen=24, seed=0)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny.llama().to(dtype) if method == "gmp" else sparse(dtype=dtype)
        if method == "gmp":
            made.prune(model=model, data=data, sparsity=HALF)
        else:
            follow(made, model, data=data)
        with torch.no_grad():
            losses.append(float(language_loss(model.float(), data.windows)))
    with torch.no_grad():
        before = float(language_loss(sparse(), data.windows))
    assert losses[0] < 0.8 * before
    assert losses[1] == pytest.approx(losses[0], rel=0.02, abs=0.002)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Retrain, {"steps": -1}, "steps -1, batch_size 8: give counts"),
        (Retrain, {"batch_size": 0}, "steps 4096, batch_size 0: give counts"),
        (Retrain, {"lr": 0.0}, r"lr 0\.0, warmup 0\.0: give a number above 0 and a share"),
        (Retrain, {"warmup": 1.5}, r"lr 0\.0002, warmup 1\.5"),
        (GMP, {"steps": 0}, "steps 0 is below 1"),
        (GMP, {"interval": 0}, "interval 0 is below 1"),
        (GMP, {"lr": float("nan")}, "lr nan is not positive"),
        (GMP, {"ramp": 1.5}, r"a ramp of 1\.5 of 4096 steps"),
        (GMP, {"steps": 20}, r"a ramp of 0\.5 of 20 steps holds no interval of 32"),
        (PERP, {"rank": 0}, "steps 1000, batch_size 2, rank 0: give counts"),
        (PERP, {"lr": -1.0}, r"lr -1\.0 is not positive"),
        (PERP, {"parts": ()}, r"parts \[\] are unknown: give some of adapters, biases, norms"),
        (PERP, {"parts": ("heads",)}, r"parts \['heads'\] are unknown"),
    ],
)
def test_options_that_make_no_sense_are_refused(cls: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**options)
