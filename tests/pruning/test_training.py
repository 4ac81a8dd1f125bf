"""``fit`` against torch's optimizer, what it keeps and restores, and the losses against their definitions."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunebench.pruning import (
    CalibrationData,
    Unstructured,
    distillation_loss,
    fit,
    language_loss,
    masks,
    prunable,
    trainable,
)
from prunebench.pruning.callbacks import use_checkpointer, use_observer
from prunebench.pruning.training import learning_rate
from prunebench.testing.trial import InterruptingCheckpointer, Interruption
from tests.helpers import tiny
from tests.helpers.observers import RecordingObserver
from tests.oracles.adamw import adamw_textbook

MIXED = ("llama", "gpt2", "mixtral", "gpt_oss")


def prune_by_magnitude(model: Any, ratio: float = 0.5) -> None:
    for layer, target in prunable(model, Unstructured(ratio)):
        layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)


def train(model: Any, data: CalibrationData | None = None, steps: int = 4, **options: Any) -> None:
    """All parameters of a model on its language loss, the masks of its matrices held."""
    data = data or tiny.calibration()
    settings = {"lr": 1e-2, "held": masks(layer.parameter for layer, _ in prunable(model, Unstructured(0.5)))}
    fit(
        lambda t: language_loss(model, next(data.batches(2, t))),
        model.parameters(),
        steps=steps,
        model=model,
        **{**settings, **options},
    )


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().float() for parameter in model.parameters()])


class TestAgainstTorch:
    def test_a_model(self) -> None:
        ours, theirs = tiny.llama(), tiny.llama()
        for model in (ours, theirs):
            prune_by_magnitude(model)
        train(ours, steps=8)
        data = tiny.calibration()

        def loss(t: int) -> Tensor:
            batch = next(data.batches(2, t))
            result: Tensor = theirs(input_ids=batch, labels=batch, use_cache=False).loss
            return result

        held = masks(layer.parameter for layer, _ in prunable(theirs, Unstructured(0.5)))
        adamw_textbook(loss, list(theirs.parameters()), steps=8, lr=1e-2, masks=held)
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-5)
        assert (weights(ours) - weights(tiny.llama())).abs().max() > 0.01

    def test_decay_of_the_weights(self) -> None:
        one, other = (torch.full((3,), 2.0) for _ in range(2))
        fit(lambda t: (one**2).sum(), [one], steps=5, lr=0.1, weight_decay=0.5, decay="constant", max_norm=None)
        optimizer = torch.optim.AdamW([other.requires_grad_()], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
        for _ in range(5):
            optimizer.zero_grad()
            (other**2).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        torch.testing.assert_close(one, other.detach())
        assert not one.requires_grad

    def test_the_learning_rate(self) -> None:
        assert [learning_rate(1.0, t, 4) for t in range(4)] == [1, 0.75, 0.5, 0.25]
        rates = [learning_rate(1.0, t, 6, warmup=2, decay="cosine") for t in range(6)]
        assert rates == pytest.approx([0.5, 1, 1, 0.8535534, 0.5, 0.1464466])
        assert learning_rate(0.3, 5, 6, decay="constant") == 0.3


class TestMasks:
    @pytest.mark.parametrize("name", tiny.MODELS)
    def test_what_is_held_stays_exactly_zero_on_every_architecture(self, name: str) -> None:
        model = tiny.MODELS[name]()
        prune_by_magnitude(model)
        before = {layer.name: layer.weight.clone() for layer, _ in prunable(model, Unstructured(0.5))}
        train(model, steps=2)
        for layer, _ in prunable(model, Unstructured(0.5)):
            assert torch.equal(layer.weight != 0, before[layer.name] != 0)
            assert not torch.equal(layer.weight, before[layer.name]) or layer.expert is not None

    def test_what_is_not_kept_is_set_to_zero_and_does_not_count_for_clipping(self) -> None:
        """A gradient of 1000 outside the mask would shrink the others to nothing."""
        both, alone = torch.tensor([1.0, 5.0]), torch.tensor([1.0])
        mask = {both: torch.tensor([True, False])}
        fit(lambda t: 0.3 * both[0] ** 2 + 1000 * both[1], [both], steps=3, lr=0.1, held=mask)
        fit(lambda t: 0.3 * alone[0] ** 2, [alone], steps=3, lr=0.1)
        assert both.tolist() == [alone.item(), 0.0]

    def test_masks_that_change_on_the_way(self) -> None:
        W, mask, seen = torch.ones(4), torch.ones(4, dtype=torch.bool), []

        def after(t: int) -> None:
            mask[t] = False
            seen.append(W.tolist().count(0))

        fit(lambda t: ((W - 3) ** 2).sum(), [W], steps=3, lr=0.1, held={W: mask}, after=after)
        assert seen == [0, 1, 2]
        assert (W == 0).tolist() == [True, True, True, False]


def logits(model: nn.Module) -> torch.Tensor:
    output: torch.Tensor = model(input_ids=tiny.tokens()[None, :20]).logits
    return output


class TestHalfPrecision:
    @pytest.mark.parametrize("name", MIXED)
    def test_masters_are_fp32_and_rounded_once(self, name: str) -> None:
        model = tiny.MODELS[name]().to(torch.bfloat16)
        master = copy.deepcopy(model).float()
        prune_by_magnitude(model)
        train(model, lr=1e-3)
        prune_by_magnitude(master)
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            train(master, lr=1e-3)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert torch.equal(weights(model), weights(master).bfloat16().float())

    def test_only_the_forward_pass_of_a_model_in_bf16_is_in_bf16(self) -> None:
        model, W = tiny.llama().to(torch.bfloat16), torch.ones(2, 2)
        found: dict[torch.dtype, list[torch.dtype]] = {}

        def after(t: int) -> None:
            found[logits(model).dtype] = [(W @ W).dtype, model.lm_head.weight.dtype]

        fit(lambda t: logits(model).float().mean(), model.parameters(), steps=1, lr=1e-3, model=model, after=after)
        assert found == {torch.bfloat16: [torch.float32, torch.float32]}
        assert "forward" not in vars(model)
        model.float()
        fit(lambda t: logits(model).mean(), model.parameters(), steps=1, lr=1e-3, model=model, after=after)
        assert found[torch.float32] == [torch.float32, torch.float32]

    def test_steps_too_small_for_bf16_are_not_lost(self) -> None:
        W = torch.ones(3, dtype=torch.bfloat16)
        fit(lambda t: W.sum(), [W], steps=100, lr=2e-3, decay="constant")
        assert W.dtype == torch.bfloat16
        assert W.tolist() == pytest.approx([0.8] * 3, abs=0.005)

    def test_what_is_not_trained_ends_as_it_was(self) -> None:
        model = tiny.llama().to(torch.bfloat16)
        before = copy.deepcopy(model.state_dict())
        norm = model.model.norm.weight
        fit(lambda t: language_loss(model, tiny.tokens()[None, :20]), [norm], steps=2, lr=0.1, model=model)
        changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
        assert changed == ["model.norm.weight"]


class TestResuming:
    def run(self, checkpointer: InterruptingCheckpointer | None, model: Any, notes: RecordingObserver) -> None:
        shrinking = masks(layer.parameter for layer, _ in prunable(model, Unstructured(0.5)))

        def after(t: int) -> None:
            for mask in shrinking.values():
                mask.view(-1)[t * 7] = False

        with use_observer(notes):
            if checkpointer is None:
                train(model, steps=40, lr=1e-3, held=shrinking, after=after)
            else:
                with use_checkpointer(checkpointer):
                    train(model, steps=40, lr=1e-3, held=shrinking, after=after)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_an_interrupted_run_ends_with_the_same_bits(self, dtype: torch.dtype) -> None:
        whole, resumed = (tiny.llama().to(dtype) for _ in range(2))
        heard, again = RecordingObserver(), RecordingObserver()
        self.run(None, whole, heard)
        checkpointer = InterruptingCheckpointer(saves=22)
        with pytest.raises(Interruption):
            self.run(checkpointer, tiny.llama().to(dtype), RecordingObserver())
        self.run(checkpointer, resumed, again)
        assert torch.equal(weights(whole), weights(resumed))
        assert again.steps[0] == ("step", 21, 40)
        assert again.traces == heard.traces[1:]

    def test_tensors_that_last_from_step_to_step_are_saved_with_it(self) -> None:
        def run(model: Any) -> Tensor:
            dual = torch.zeros_like(model.model.norm.weight)

            def after(t: int) -> None:
                dual.add_(model.model.norm.weight.detach())
                model.model.norm.weight.data.add_(dual, alpha=1e-3)

            train(model, steps=8, after=after, state=[dual])
            return dual

        whole, resumed, checkpointer = tiny.llama(), tiny.llama(), InterruptingCheckpointer(saves=5)
        dual = run(whole)
        with pytest.raises(Interruption), use_checkpointer(checkpointer):
            run(tiny.llama())
        with use_checkpointer(checkpointer):
            assert torch.equal(run(resumed), dual)
        assert torch.equal(weights(whole), weights(resumed))

    def test_a_second_run_does_not_take_up_the_first_ones_state(self) -> None:
        class Keeps(InterruptingCheckpointer):
            def keep(self, *args: Any) -> None:
                self._saves_left += 1
                super().keep(*args)

        plain, saving = torch.ones(3), torch.ones(3)
        for W, checkpointer in ((plain, None), (saving, Keeps(9))):
            for goal in (2.0, -1.0):
                if checkpointer is None:
                    fit(lambda t, W=W, goal=goal: ((W - goal) ** 2).sum(), [W], steps=5, lr=0.1)
                else:
                    with use_checkpointer(checkpointer):
                        fit(lambda t, W=W, goal=goal: ((W - goal) ** 2).sum(), [W], steps=5, lr=0.1)
        assert torch.equal(plain, saving)

    def test_what_a_finished_run_saved_is_gone(self) -> None:
        """Another that starts alike begins anew, and a disk does not fill up with the states of all blocks."""
        checkpointer = InterruptingCheckpointer(saves=100)
        for goal in (2.0, -1.0):
            kept, plain = torch.ones(3), torch.ones(3)
            with use_checkpointer(checkpointer):
                fit(lambda t, W=kept, goal=goal: ((W - goal) ** 2).sum(), [kept], steps=5, lr=0.1)
            fit(lambda t, W=plain, goal=goal: ((W - goal) ** 2).sum(), [plain], steps=5, lr=0.1)
            assert not checkpointer.names
            assert torch.equal(kept, plain)

    @pytest.mark.parametrize("other", [{"betas": (0.8, 0.95)}, {"weight_decay": 0.5}, {"max_norm": 2.0}, {"held": 1}])
    def test_a_run_of_other_settings_does_not_take_up_what_was_interrupted(self, other: dict[str, Any]) -> None:
        def run(**options: Any) -> Tensor:
            W = torch.ones(3)
            if "held" in options:
                options["held"] = {W: torch.tensor([True, True, False])}
            fit(lambda t: (W**2).sum(), [W], steps=8, lr=0.1, **options)
            return W

        checkpointer = InterruptingCheckpointer(saves=5)
        with pytest.raises(Interruption), use_checkpointer(checkpointer):
            run()
        expected = run(**other)
        with use_checkpointer(checkpointer):
            assert torch.equal(run(**other), expected)


class TestWhatIsRestored:
    def test_flags_gradients_modes_and_forwards(self) -> None:
        model = tiny.opt().train()
        frozen, other = model.model.decoder.embed_tokens.weight, model.model.decoder.layers[0].fc1.weight
        frozen.requires_grad_(False)
        other.grad = kept = torch.ones_like(other)
        with torch.no_grad():
            train(model, steps=2, grad_checkpointing=True)
        assert not frozen.requires_grad
        assert other.requires_grad
        assert other.grad is kept
        assert all(module.training for module in model.modules())
        assert not any("forward" in vars(module) for module in model.modules())

    def test_no_step_changes_nothing(self) -> None:
        model = tiny.llama().to(torch.bfloat16)
        before = copy.deepcopy(model.state_dict())
        train(model, steps=0)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_checkpointing_changes_no_number(self) -> None:
        plain, saving = tiny.llama(), tiny.llama()
        train(plain)
        train(saving, grad_checkpointing=True)
        assert torch.equal(weights(plain), weights(saving))

    def test_a_failed_run(self) -> None:
        model = tiny.llama().to(torch.bfloat16)
        with torch.no_grad():
            model.model.norm.weight.fill_(float("inf"))
        with pytest.raises(FloatingPointError, match=r"at step 0: try a smaller lr than 0\.01"):
            train(model)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps -1 is negative"),
        ({"lr": 0.0}, r"lr 0\.0 is not positive"),
        ({"warmup": 9}, "warmup 9 is outside 0 to 4"),
        ({"decay": "step"}, "decay 'step' is unknown: valid: linear, cosine, constant"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(tiny.llama(), **options)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no parameters to train"):
        fit(lambda t: torch.zeros(()), [], steps=1, lr=1)
    W = torch.ones(3)
    with pytest.raises(ValueError, match=r"a mask of torch.float32 \(3,\) for a parameter \(3,\)"):
        fit(lambda t: W.sum(), [W], steps=1, lr=1, held={W: torch.ones(3)})


class TestLosses:
    @pytest.mark.parametrize("name", MIXED)
    def test_the_language_loss_is_transformers_own(self, name: str) -> None:
        model, batch = tiny.MODELS[name](), tiny.calibration().windows
        theirs = model(input_ids=batch, labels=batch, use_cache=False).loss
        torch.testing.assert_close(language_loss(model, batch), theirs, rtol=1e-5, atol=1e-6)

    def test_distillation_by_its_sum(self) -> None:
        model, teacher, batch = tiny.qwen3(), tiny.qwen3(), tiny.calibration(nsamples=3).windows
        assert distillation_loss(model, teacher, batch).abs() < 1e-6
        with torch.no_grad():
            model.model.norm.weight.mul_(0.5)
            p, q = (m(input_ids=batch).logits.double().softmax(-1) for m in (teacher, model))
        loss = distillation_loss(model, teacher, batch)
        assert loss.item() == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-4)
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(parameter.grad is None for parameter in teacher.parameters())

    @pytest.mark.parametrize("name", MIXED)
    def test_matrices_in_place_of_the_layers_own(self, name: str) -> None:
        """The loss with other matrices is that of a model that holds them, and so is its gradient."""
        model, other, batch = tiny.MODELS[name](), tiny.MODELS[name](), tiny.calibration(nsamples=2).windows
        given = {}
        for (layer, _), (there, _) in zip(
            prunable(model, Unstructured(0.5)), prunable(other, Unstructured(0.5)), strict=True
        ):
            if "layers.1." in layer.name or "h.1." in layer.name:
                there.weight.mul_(1.3)
                given[layer.name] = there.weight.clone().requires_grad_()
        loss, expected = language_loss(model, batch, given), language_loss(other, batch)
        torch.testing.assert_close(loss, expected)
        loss.backward()  # type: ignore[no-untyped-call]
        expected.backward()  # type: ignore[no-untyped-call]
        for layer, _ in prunable(other, Unstructured(0.5)):
            if layer.name in given:
                torch.testing.assert_close(given[layer.name].grad, layer.view(layer.parameter.grad))

    def test_a_name_of_no_layer_is_refused(self) -> None:
        with pytest.raises(ValueError, match="weights of q_proj: there is no such layer here"):
            language_loss(tiny.llama(), tiny.tokens()[None, :8], {"q_proj": torch.zeros(2, 2)})


def test_a_loop_of_ones_own() -> None:
    """Cross-entropy falls when plain gradient steps are taken within ``trainable``."""
    model, batch = tiny.llama(), tiny.calibration().windows
    before = language_loss(model, batch).item()
    with trainable(model) as parameters:
        for _ in range(5):
            loss = language_loss(model, batch)
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.detach().sub_(gradient, alpha=0.1)
    assert language_loss(model, batch).item() < before - 0.01
