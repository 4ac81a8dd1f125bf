"""``reconstruct`` and ``safe`` against their papers' algorithms on one block, and what they hold on to."""

from typing import Any

import pytest
import torch
from prunebench_plugins.reconstruct import Reconstruct
from prunebench_plugins.safe import SAFE
from torch import Tensor

from prunebench.pruning import NM, FeatureNorm, Held, Pattern, Target, Unstructured, calibrated, prunable
from prunebench.pruning.sparsity import parse_pattern
from prunebench.testing.models import prune_by_magnitude
from tests.helpers import tiny
from tests.oracles.blockwise import called, ebft_textbook, first_call, matrices, safe_textbook

HALF = Unstructured(0.5)


def sparse(pattern: str = "0.5", name: str = "llama") -> Any:
    model = tiny.MODELS[name]()
    prune_by_magnitude(model, parse_pattern(pattern))
    return model


class TestReconstruct:
    def fit(self, model: Any, pattern: str = "0.5", teacher: Any = tiny.llama, **options: Any) -> Any:
        data = tiny.calibration(teacher=teacher)
        Reconstruct(**options).prune(model=model, data=data, sparsity=Held(parse_pattern(pattern)))
        return model

    @pytest.mark.parametrize("inputs", ["pruned", "dense"])
    def test_the_first_block_is_the_papers(self, inputs: Any) -> None:
        """Its inputs are the dense model's whatever is asked for."""
        model, other = self.fit(sparse(), epochs=12, lr=1e-2, inputs=inputs), sparse()
        call = first_call(other, tiny.calibration().windows)
        ebft_textbook(other.model.layers[0], tiny.llama().model.layers[0], call, steps=12, lr=1e-2)  # type: ignore[attr-defined]
        ours, theirs = (matrices(each.model.layers[0]) for each in (model, other))
        for one, two, before in zip(ours, theirs, matrices(sparse().model.layers[0]), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
            assert not torch.equal(one, before)

    @pytest.mark.parametrize("inputs", ["pruned", "dense"])
    def test_later_blocks_come_nearer_to_their_targets(self, inputs: Any) -> None:
        """The last block's outputs: of the dense block on the fitted model's inputs, or of the dense model."""
        data, dense = tiny.calibration(), tiny.llama()
        fitted = self.fit(sparse(), epochs=40, lr=1e-2, inputs=inputs)

        def distance(model: Any) -> float:
            seen: list[Tensor] = []
            handle = model.model.layers[2].register_forward_pre_hook(
                lambda m, args, kwargs: seen.append((args[0], kwargs)), with_kwargs=True
            )
            with torch.no_grad():
                model(input_ids=data.windows, use_cache=False)
                handle.remove()
                if inputs == "pruned":
                    target = called(dense.model.layers[2], seen[0])  # type: ignore[arg-type, attr-defined]
                else:
                    target = dense(input_ids=data.windows, output_hidden_states=True).hidden_states
                    hooked: list[Tensor] = []
                    own = dense.model.layers[2].register_forward_hook(  # type: ignore[attr-defined]
                        lambda m, a, out: hooked.append(out if isinstance(out, Tensor) else out[0])
                    )
                    dense(input_ids=data.windows, use_cache=False)
                    own.remove()
                    (target,) = hooked
                return float((called(model.model.layers[2], seen[0]) - target).square().mean())  # type: ignore[arg-type]

        assert distance(fitted) < 0.7 * distance(sparse())

    @pytest.mark.parametrize("pattern", ["0.83", "2:4"])
    @pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mixtral", "gpt_oss"])
    def test_masks_are_held(self, pattern: str, name: str) -> None:
        model = self.fit(sparse(pattern, name), pattern, tiny.MODELS[name], epochs=2, lr=1e-2)
        assert not all(
            torch.equal(*pair) for pair in zip(model.parameters(), sparse(pattern, name).parameters(), strict=True)
        )
        for (layer, _), (before, _) in zip(prunable(model, HALF), prunable(sparse(pattern, name), HALF), strict=True):
            assert torch.equal(layer.weight == 0, before.weight == 0)

    def test_no_epoch_leaves_the_model_as_it_was(self) -> None:
        one, other = self.fit(sparse(), epochs=0), sparse()
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

    @pytest.mark.parametrize("options", [{"epochs": -1}, {"lr": 0.0}, {"lr": float("inf")}])
    def test_wrong_options(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"epochs .*, lr .*: give a count and a number above 0"):
            Reconstruct(**options)


class TestSAFE:
    @pytest.mark.parametrize("activation", [False, True])
    @pytest.mark.parametrize("pattern", [Unstructured(0.7), NM(2, 4)], ids=str)
    def test_the_first_block_is_the_papers(self, pattern: Pattern, activation: bool) -> None:
        model, other, data = tiny.llama(), tiny.llama(), tiny.calibration()
        settings: dict[str, Any] = {"lr": 5e-3, "rho": 0.05, "lmda": 0.1, "interval": 3}
        SAFE(epochs=30, activation=activation, **settings).prune(model=model, data=data, sparsity=pattern)
        norms = [norm.value for _, norm, _ in calibrated(tiny.llama(), data, pattern, FeatureNorm, resume=False)]

        def project(W: Tensor, number: int) -> Tensor:
            target = Target.of(pattern, (W.shape[0], W.shape[1]))
            return W * target.mask(W.abs() * (norms[number] if activation else 1.0))

        block = other.model.layers[0]  # type: ignore[attr-defined]
        safe_textbook(block, first_call(other, data.windows), project, steps=30, **settings)
        for one, two in zip(matrices(model.model.layers[0]), matrices(block), strict=True):  # type: ignore[attr-defined]
            assert ((one == 0) == (two == 0)).float().mean() > 0.98
            both = (one != 0) & (two != 0)
            torch.testing.assert_close(one[both], two[both], rtol=2e-2, atol=2e-3)

    def test_it_is_nearer_to_the_dense_block_than_magnitude(self) -> None:
        data, dense = tiny.calibration(), tiny.llama()
        model = tiny.llama()
        SAFE(epochs=60, lr=1e-2, lmda=0.01, interval=4).prune(model=model, data=data, sparsity=HALF)
        call = first_call(dense, data.windows)
        with torch.no_grad():
            target, ours, theirs = (called(m.model.layers[0], call) for m in (dense, model, sparse()))  # type: ignore[attr-defined]
        assert (ours - target).square().mean() < 0.7 * (theirs - target).square().mean()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"epochs": -1}, "epochs -1, interval 32: give counts"),
            ({"interval": 0}, "epochs 30, interval 0: give counts"),
            ({"lr": 0.0}, r"lr 0\.0, rho .* give numbers above 0"),
            ({"rho": -1.0}, r"rho -1\.0, lmda .* give numbers above 0"),
        ],
    )
    def test_wrong_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SAFE(**options)
