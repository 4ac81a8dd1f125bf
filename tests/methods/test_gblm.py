"""GBLM-Pruner against its formula, with gradients that are taken window by window."""

from typing import Any

import pytest
import torch
from prunebench_plugins.gblm import GBLM, gblm_scores
from prunebench_plugins.wanda import Wanda

from prunebench.pruning import NM, Unstructured
from tests.helpers import tiny
from tests.oracles.gblm import gblm_score, gradient_norms
from tests.oracles.training import linears
from tests.oracles.walk import walk_textbook


def test_scores_by_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    W, X = torch.randn(3, 4, generator=generator), torch.randn(2, 5, 4, generator=generator)
    gradients = torch.randn(2, 3, 4, generator=generator)
    norm = X.square().sum(dim=1).mean(dim=0).sqrt()
    for p in (1, 2):
        G = gradients.abs().pow(p).sum(dim=0).pow(1 / p)
        expected = [[gblm_score(W, X, gradients, i, j, alpha=7.0, p=p) for j in range(4)] for i in range(3)]
        torch.testing.assert_close(gblm_scores(W, norm, G, 7.0), torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("pattern", [Unstructured(0.5), NM(2, 4)], ids=str)
def test_a_whole_model_equals_the_textbook(norm: Any, pattern: Unstructured | NM) -> None:
    ours, theirs, data = tiny.llama(), tiny.llama(), tiny.calibration()
    GBLM(alpha=3.0, norm=norm).prune(ours, data, pattern)
    norms = iter(gradient_norms(theirs, data.windows, p=2 if norm == "l2" else 1))

    def prune(W: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
        """``squares`` are means over tokens; the paper's code has their sum over a window."""
        scores = W.abs() * (3.0 * next(norms) + (squares * data.seqlen).sqrt())
        width = 4 if isinstance(pattern, NM) else W.shape[1]
        order = scores.view(-1, width).argsort(dim=1)[:, : width // 2]
        return W.view(-1, width).scatter(1, order, 0.0).view(W.shape)

    walk_textbook(theirs, data.windows, lambda X: X.square().sum(dim=0), prune)
    for one, other in zip(linears(ours), linears(theirs), strict=True):
        assert ((one.weight != 0) == (other.weight != 0)).float().mean() > 0.995


def test_without_gradients_it_is_wanda() -> None:
    ours, wanda, other, data = tiny.llama(), tiny.llama(), tiny.llama(), tiny.calibration()
    GBLM(alpha=0.0).prune(ours, data, Unstructured(0.7))
    GBLM(alpha=1000.0).prune(other, data, Unstructured(0.7))
    Wanda().prune(wanda, data, Unstructured(0.7))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(linears(ours), linears(wanda), strict=True))
    assert not all(torch.equal(a.weight, b.weight) for a, b in zip(linears(other), linears(wanda), strict=True))


@pytest.mark.parametrize("alpha", [-1.0, float("inf"), float("nan")])
def test_wrong_options(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha .* is negative or not finite"):
        GBLM(alpha=alpha)
