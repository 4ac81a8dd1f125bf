"""``elsa`` and ``elsa-l`` on whole models: options, what is put back, what is told."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from prunebench_plugins.elsa import Elsa, ElsaL
from prunebench_plugins.elsa.variables import Matrix
from torch import Tensor, nn

from prunebench.contract.checks import Snapshot
from prunebench.pruning import (
    CalibrationData,
    Hessian,
    Sparsity,
    Target,
    Unstructured,
    calibrated,
    language_loss,
    prunable,
    trainable,
)
from prunebench.pruning.callbacks import use_observer
from prunebench.pruning.sparsity import parse_pattern
from prunebench.registry.entry_points import load_method
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver

QUICK: dict[str, Any] = {"steps": 6, "lr": 1e-3, "interval": 2, "batch_size": 2}


def prune(method: Elsa, model: Any, pattern: str = "0.7", data: CalibrationData | None = None) -> RecordingObserver:
    sparsity: Sparsity = parse_pattern(pattern)
    before, observer = Snapshot.of(model, sparsity, "all"), RecordingObserver()
    with use_observer(observer):
        method.prune(model=model, data=data or tiny.calibration(), sparsity=sparsity)
    before.verify(model)
    return observer


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


VARIANTS = [
    Elsa(**QUICK, layout="two-state"),
    Elsa(**QUICK, projection="magnitude", lmda_schedule="constant"),
    ElsaL(**QUICK, c_dtype="bf16"),
    ElsaL(**QUICK, layout="two-state"),
]


@pytest.mark.parametrize("method", VARIANTS, ids=["two-state", "magnitude", "l-bf16", "l-paper"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("pattern", ["0.83", "2:4"])
def test_every_variant_keeps_the_contract(method: Elsa, architecture: str, pattern: str) -> None:
    prune(method, tiny.MODELS[architecture](), pattern)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls", [Elsa, ElsaL])
def test_half_precision_is_trained_in_fp32_and_rounded_once(cls: type[Elsa], dtype: torch.dtype) -> None:
    model = tiny.llama().to(dtype)
    master = tiny.llama().to(dtype).float()
    prune(cls(**QUICK), model)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
        prune(cls(**QUICK), master)
    assert all(parameter.dtype == dtype for parameter in model.parameters())
    differ = weights(model) != weights(master).to(dtype)
    assert differ.float().mean() < 0.01, "only near-ties of rounded scores may be projected otherwise"


def test_one_state_and_two_state_end_with_the_same_weights() -> None:
    one, two = tiny.llama(), tiny.llama()
    options = QUICK | {"steps": 24, "lmda": 0.3}
    prune(Elsa(**options), one)
    prune(Elsa(**options, layout="two-state"), two)
    assert torch.equal(weights(one), weights(two))


def test_accumulated_gradients_are_those_of_one_batch() -> None:
    """Two micro-batches of 2 against one of 4 with the same windows."""

    class Paired(CalibrationData):
        def batches(self, batch_size: int, start: int = 0) -> Iterator[Tensor]:
            halves = super().batches(2, start * batch_size // 2)
            return (torch.cat([next(halves), next(halves)]) for _ in iter(int, 1)) if batch_size == 4 else halves

    small, large = tiny.llama(), tiny.llama()
    data = [Paired(tiny.tokens(), nsamples=4, seqlen=24, seed=0) for _ in range(2)]
    prune(Elsa(**QUICK | {"batch_size": 2, "grad_accumulation": 2, "steps": 3}), small, data=data[0])
    prune(Elsa(**QUICK | {"batch_size": 4, "steps": 3}), large, data=data[1])
    torch.testing.assert_close(weights(small), weights(large), rtol=1e-3, atol=1e-5)
    assert data[0].tokens_seen == data[1].tokens_seen == 3 * 4 * 24


@pytest.mark.parametrize("architecture", tiny.MODELS)
def test_checkpointing_changes_no_number(architecture: str) -> None:
    plain, saving = tiny.MODELS[architecture](), tiny.MODELS[architecture]()
    prune(Elsa(**QUICK | {"steps": 3}), plain)
    prune(Elsa(**QUICK | {"steps": 3}, grad_checkpointing=True), saving)
    assert torch.equal(weights(plain), weights(saving))


def test_checkpointing_recomputes() -> None:
    model = tiny.llama()
    calls = []
    original = model.model.layers[0].mlp.forward
    model.model.layers[0].mlp.forward = lambda x: (calls.append(1), original(x))[1]
    with trainable(model, grad_checkpointing=True):
        model(input_ids=tiny.tokens()[None, :8], use_cache=False).logits.sum().backward()
    assert len(calls) == 2


def test_gradients_modes_and_flags_are_put_back() -> None:
    model = tiny.opt()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    frozen, other = model.model.decoder.embed_tokens.weight, model.model.decoder.layers[0].fc1.weight
    frozen.requires_grad_(False)
    other.grad = kept = torch.ones_like(other)
    observer = prune(Elsa(**QUICK), model)
    assert not frozen.requires_grad
    assert other.requires_grad
    assert other.grad is kept
    assert model.model.decoder.layers[1].fc1.weight.grad is None
    assert "frozen parameters are trained all the same" in observer.messages


def test_what_was_found_is_put_back_when_a_run_fails() -> None:
    model = tiny.llama().to(torch.bfloat16)
    model.lm_head.requires_grad_(False)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="at step 0: try a smaller lr"):
        Elsa(**QUICK, grad_checkpointing=True).prune(model=model, data=tiny.calibration(), sparsity=Unstructured(0.5))
    assert all(parameter.dtype == torch.bfloat16 and parameter.grad is None for parameter in model.parameters())
    assert not any("forward" in vars(module) for module in model.modules())
    assert not model.lm_head.weight.requires_grad


def test_it_runs_under_no_grad() -> None:
    with torch.no_grad():
        prune(Elsa(**QUICK), tiny.llama())


def test_it_learns() -> None:
    """On text with a rule to it, the pruned model is far better than the dense one was, with four fifths gone."""
    text = torch.arange(1, 9).repeat(500)
    data = CalibrationData(text, nsamples=4, seqlen=24, seed=0)
    model = tiny.llama()
    observer = prune(Elsa(steps=60, lr=2e-2, lmda=1.0, interval=2, batch_size=4), model, "0.8", data)
    with torch.no_grad():
        assert language_loss(model, data.windows) < 0.1 < 4 < observer.traces[0]["loss"]
    assert observer.traces[-1]["loss"] < 0.1
    assert observer.traces[-1]["primal"] < observer.traces[0]["primal"]


def test_what_a_run_tells() -> None:
    observer = prune(Elsa(**QUICK), tiny.llama())
    assert [row["step"] for row in observer.traces] == [0, 2, 4, 6]
    columns = {"step", "loss", "primal", "dual", "mask_change", "lmda", "lr"}
    assert [set(row) - columns for row in observer.traces] == [set(), set(), set(), {"projected_loss"}]
    assert all(columns <= set(row) and 0 <= row["mask_change"] <= 1 for row in observer.traces)
    model = tiny.llama()
    numel = sum(layer.weight.numel() for layer, _ in prunable(model, Unstructured(0.5)))
    assert observer.amounts["state_bytes"] == numel * 129 // 8
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert observer.amounts["gradient_bytes"] == 4 * everything
    assert observer.amounts["other_state_bytes"] == 12 * (everything - numel)
    weights = torch.cat([layer.weight.flatten() for layer, _ in prunable(model, Unstructured(0.5))])
    assert observer.amounts["travel"] == pytest.approx(float(1e-3 * 6 / 2 / weights.square().mean().sqrt()))
    assert observer.messages == [
        "weights can travel less than three times their rms (lr·steps/2): raise lr or steps",
        "fewer than 16 updates of z and u: lower interval or raise steps",
    ]
    assert not prune(Elsa(steps=32, lr=0.1, interval=1, batch_size=1), tiny.llama()).notes


def test_the_loss_after_the_projection_is_that_of_the_model_which_is_left() -> None:
    """On the last step's batch, without text beyond it: a run without λ, of which the projection leaves little."""
    data, model = tiny.calibration(), tiny.llama()
    observer = prune(Elsa(steps=4, lr=1e-2, lmda=1e-9, interval=2, batch_size=2), model, "0.9", data)
    last = next(tiny.calibration().batches(2, start=3))
    with torch.no_grad():
        assert observer.traces[-1]["projected_loss"] == pytest.approx(float(language_loss(model, last)), rel=1e-5)
    assert data.tokens_seen == 4 * 2 * data.seqlen


def test_a_mask_change_counts_the_weights_that_enter() -> None:
    """Of 4 weights 2 are kept, and one of them is exchanged for another."""
    W = torch.tensor([[4.0, 3.0, 2.0, 1.0]], requires_grad=True)
    for layout in ("one-state", "two-state"):
        method = Elsa(layout=layout)  # type: ignore[arg-type]
        matrix = Matrix(W, method.moments(W), method.split(W.detach()), Target.of(Unstructured(0.5), (1, 4)))
        matrix.start()
        matrix.W.copy_(torch.tensor([[4.0, 1.0, 3.0, 2.0]]))
        *_, entered, kept = matrix.update(1.0, "magnitude").tolist()
        assert (entered, kept) == (1, 2)
        matrix.W.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
        assert matrix.finish("magnitude").tolist()[3:] == [1, 2]


def test_elsa_l_holds_fewer_bytes() -> None:
    model = tiny.llama()
    held = [prune(cls(**QUICK), tiny.llama()).amounts["state_bytes"] for cls in (Elsa, ElsaL)]
    large = [layer.weight.numel() for layer, _ in prunable(model, Unstructured(0.5))]
    assert held[1] < held[0]
    assert max(large) < 4096, "so the moments are fp32 here: 12 + 1 + 1/8 bytes, and two scales a matrix"
    assert held[1] == sum(13 * n + n // 8 + 8 for n in large)


@pytest.mark.parametrize("cls", [Elsa, ElsaL])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps 0 is below 1: give a whole number from 1 up"),
        ({"interval": 0}, "interval 0 is below 1"),
        ({"batch_size": 0}, "batch_size 0 is below 1"),
        ({"grad_accumulation": -1}, "grad_accumulation -1 is below 1"),
        ({"lmda": -0.1}, "lmda -0.1 is not positive: give a finite number above 0"),
        ({"lmda": 0.0}, "lmda 0.0 is not positive"),
        ({"lmda": float("nan")}, "lmda nan is not positive"),
        ({"lr": 0.0}, "lr 0.0 is not positive"),
        ({"lmda_init": -1.0}, "lmda_init -1.0 is negative"),
        ({"lmda_schedule": "exponential"}, "lmda_init 0 has no exponential schedule"),
        ({"lmda_schedule": "step"}, "lmda_schedule 'step' is unknown: valid: constant, linear, cosine, exponential"),
        ({"projection": "taylor"}, "projection 'taylor' is unknown: valid: objective, magnitude"),
        ({"layout": "three"}, "layout 'three' is unknown: valid: one-state, two-state"),
    ],
)
def test_options_that_make_no_sense_are_refused(cls: type[Elsa], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**options)


@pytest.mark.parametrize("cls", [Elsa, ElsaL])
def test_the_layerwise_loss_makes_up_for_what_is_pruned(cls: type[Elsa]) -> None:
    """Against the magnitude projection of the same weights, by the output error of the first matrix."""
    model, dense = tiny.gpt2(), tiny.gpt2()
    prune(cls(steps=80, lr=5e-2, lmda=1.0, interval=4, loss="layerwise"), model)
    (layer, H, target), *_ = calibrated(dense, tiny.calibration(), Unstructured(0.7), Hessian)
    first = next(prunable(model, Unstructured(0.7)))[0].weight

    def error(pruned: Tensor) -> float:
        moved = pruned - layer.weight
        return float((moved @ H.matrix * moved).sum())

    assert error(first) < 0.8 * error(layer.weight * target.mask(layer.weight.abs()))


def test_elsa_ls_own_options_are_checked() -> None:
    with pytest.raises(ValueError, match="c_dtype 'fp4' is unknown: valid: fp8, bf16"):
        ElsaL(c_dtype="fp4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="c_dtype bf16 belongs to layout one-state"):
        ElsaL(layout="two-state", c_dtype="bf16")


@pytest.mark.parametrize("name", ["elsa", "elsa-l"])
def test_every_option_is_documented(name: str) -> None:
    method = load_method(name)
    assert method.changes == "all"
    assert set(method.options) == set(method.option_docs)
    assert method.options["steps"] == 4096
    assert method.options["interval"] == 32
