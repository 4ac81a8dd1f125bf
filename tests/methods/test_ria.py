"""RIA's scores and channel order against the paper's words, and a permutation that the model does not notice."""

import pytest
import torch
from prunebench_plugins.ria import RIA, channel_order, gated_mlps, permute, ria_scores

from prunebench.pruning import NM, FeatureNorm, UnknownMatrixError, Unstructured, blocks, prunable
from prunebench.testing import check
from tests.helpers import tiny
from tests.helpers.layerwise import problem
from tests.oracles.ria import channel_order_textbook, dealt, pruned_apart, retained, ria_score
from tests.oracles.walk import walk_textbook


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_scores_by_brute_force(power: float) -> None:
    W, X = problem(rows=6, columns=10)
    found = ria_scores(W, X.norm(dim=0), power)
    expected = torch.tensor([[ria_score(W, X, i, j, power) for j in range(10)] for i in range(6)])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_row_or_column_of_zeros_scores_zero() -> None:
    W, X = problem(rows=6, columns=10)
    W[2], W[:, 3] = 0, 0
    scores = ria_scores(W, X.norm(dim=0), 0.5)
    assert not scores[2].any()
    assert not scores[:, 3].any()
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("pattern", [Unstructured(0.7), NM(2, 4), NM(1, 4)], ids=str)
def test_a_whole_model_equals_the_textbook(pattern: Unstructured | NM) -> None:
    ours, theirs, data = tiny.llama(), tiny.llama(), tiny.calibration()
    RIA().prune(ours, data, pattern)

    def prune(W: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
        scores = ria_scores(W, squares.mul(data.windows.numel()).sqrt(), 0.5)
        if isinstance(pattern, NM):
            return W * pruned_apart(scores, pattern.n, pattern.m)
        zeros = pattern.zeros((W.shape[0], W.shape[1]))
        return W.flatten().index_fill(0, scores.flatten().argsort()[:zeros], 0).view(W.shape)

    walk_textbook(theirs, data.windows, lambda X: X.square().sum(dim=0), prune)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one != 0, other != 0)


class TestPermutation:
    @pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2)])
    @pytest.mark.parametrize("seed", range(3))
    def test_the_order_is_the_best_of_all_assignments(self, n: int, m: int, seed: int) -> None:
        scores = problem(rows=7, columns=16, seed=seed)[0].abs() * torch.arange(1, 17)
        found = channel_order(scores, n, m).tolist()
        if (n, m) == (2, 4):  # in the others a column that is kept nowhere may go anywhere
            assert found == channel_order_textbook(scores, n, m)
        assert sorted(found) == list(range(16))
        plain = list(range(16))
        assert retained(scores, found, n, m) >= retained(scores, dealt(scores, m), n, m) - 1e-3
        assert retained(scores, found, n, m) > retained(scores, plain, n, m)

    @pytest.mark.parametrize("name", ["llama", "qwen3"])
    def test_outputs_are_those_of_the_dense_model_where_nothing_is_pruned(self, name: str) -> None:
        """All channels of all blocks are reordered, and no weight is set to zero."""
        model, dense, data = tiny.MODELS[name](), tiny.MODELS[name](), tiny.calibration()
        for block in blocks(model, data, NM(2, 4)):
            norms = {key: norm.value for key, norm in block.statistics(FeatureNorm).items()}
            permute(block, norms, 0.5)
        moved = [layer.name for layer, _ in prunable(model, NM(2, 4)) if "mlp" in layer.name]
        for layer, _ in prunable(model, NM(2, 4)):
            same = torch.equal(layer.weight, dense.get_parameter(f"{layer.name}.weight"))
            assert same == (layer.name not in moved)
        with torch.no_grad():
            one, other = (each(input_ids=data.windows, use_cache=False).logits for each in (model, dense))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)

    def test_it_keeps_more_of_the_scores_than_without(self) -> None:
        kept = {}
        for permutation in (False, True):
            model = tiny.llama()
            RIA(permutation=permutation).prune(model, tiny.calibration(), NM(2, 4))
            (first, *_) = (layer for layer, _ in prunable(model, NM(2, 4)) if "down_proj" in layer.name)
            kept[permutation] = float(first.weight.abs().sum())
        assert kept[True] > kept[False]

    @pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4)])
    def test_norms_go_with_their_channels(self, n: int, m: int) -> None:
        """The mask of the first ``down_proj`` is that of the dense model's scores, by loops, in the new order."""
        model, dense, data = tiny.llama(), tiny.llama(), tiny.calibration()
        RIA(permutation=True).prune(model, data, NM(n, m))
        first = "model.layers.0.mlp.down_proj"
        inputs: list[torch.Tensor] = []
        with torch.no_grad(), dense.get_submodule(first).register_forward_pre_hook(lambda _, x: inputs.append(*x)):
            dense(input_ids=data.windows, use_cache=False)
        W, X = dense.get_parameter(f"{first}.weight").detach(), inputs[0].flatten(0, 1)
        scores = torch.tensor([[ria_score(W, X, i, j, 0.5) for j in range(W.shape[1])] for i in range(W.shape[0])])
        order = channel_order(scores, n, m)
        expected = W[:, order] * pruned_apart(scores[:, order], n, m)
        assert torch.equal(model.get_parameter(f"{first}.weight"), expected)

    def test_unstructured_sparsity_is_as_without(self) -> None:
        one, other = tiny.llama(), tiny.llama()
        RIA(permutation=True).prune(one, tiny.calibration(), Unstructured(0.5))
        RIA().prune(other, tiny.calibration(), Unstructured(0.5))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

    @pytest.mark.parametrize("name", ["opt", "gpt2", "mixtral", "neox"])
    def test_unknown_wiring_is_refused_before_anything_is_written(self, name: str) -> None:
        model, before = tiny.MODELS[name](), tiny.MODELS[name]().state_dict()
        with pytest.raises(
            UnknownMatrixError, match="decoder block 0 holds no MLP of gate_proj, up_proj and down_proj"
        ):
            RIA(permutation=True).prune(model, tiny.calibration(), NM(2, 4))
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())

    def test_weights_between_the_matrices_make_the_wiring_unknown(self) -> None:
        block = tiny.llama().model.layers[0]  # type: ignore[attr-defined]
        assert len(gated_mlps(block)) == 1
        block.mlp.norm = torch.nn.LayerNorm(48)
        assert not gated_mlps(block)

    def test_the_contract(self) -> None:
        found = check("ria", {"permutation": True}, architectures=["llama"], patterns=["2:4"], in_process=True)
        assert found.holds, [str(verdict) for verdict in found.verdicts.values() if not verdict.holds]
