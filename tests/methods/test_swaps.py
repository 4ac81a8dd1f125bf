"""Refinement of masks against every exchange tried, DSnoT's rule in loops, and what neither may do."""

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from prunebench_plugins.alps import ALPS
from prunebench_plugins.ria import RIA
from prunebench_plugins.swaps import Swaps, dsnot, exact
from prunebench_plugins.swaps.dsnot import THRESHOLD
from prunebench_plugins.wanda import Wanda
from torch import Tensor

from prunebench.errors import MethodError
from prunebench.pruning import NM, FeatureMoments, Hessian, Pattern, Target, Unstructured, calibrated, prunable
from prunebench.pruning.sparsity import parse_pattern
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers import tiny
from tests.helpers.layerwise import hessian_of, layer_of, problem
from tests.helpers.observers import SilentDisplay
from tests.oracles.leastsquares import exact_on_mask, layer_error
from tests.oracles.swaps import dsnot_row, refined_row

PATTERNS = [Unstructured(0.5), Unstructured(0.75), NM(2, 4), NM(1, 4)]


def start(pattern: Pattern, rows: int = 6, columns: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """W, W with Wanda's zeros, and X."""
    W, X = problem(rows=rows, columns=columns)
    mask = Target.of(pattern, (rows, columns)).mask(W.abs() * X.norm(dim=0), per="row")
    return W, W * mask, X


def moments_of(X: Tensor) -> FeatureMoments:
    moments = FeatureMoments(layer_of(torch.zeros(1, X.shape[1])))
    moments.add(X)
    return moments


class TestExact:
    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    @pytest.mark.parametrize("swaps", [1, 2, 50])
    def test_against_every_exchange_tried(self, pattern: Pattern, swaps: int) -> None:
        W, V, X = start(pattern)
        H = hessian_of(X)
        refined = exact(W, V, H, pattern.group, swaps)
        expected = torch.stack([refined_row(w, v, H.matrix, pattern.group, swaps) for w, v in zip(W, V, strict=True)])
        assert torch.equal(refined, expected)
        assert not torch.equal(refined != 0, V != 0)

    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    def test_after_weights_were_updated(self, pattern: Pattern) -> None:
        """What stays keeps the value that the method before gave it."""
        W, V, X = start(pattern)
        H = hessian_of(X)
        V = exact_on_mask(W, H.matrix, V != 0).float() + 0.1 * V
        refined = exact(W, V, H, pattern.group, 50)
        expected = torch.stack([refined_row(w, v, H.matrix, pattern.group, 50) for w, v in zip(W, V, strict=True)])
        torch.testing.assert_close(refined, expected)

    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    @pytest.mark.parametrize("seed", range(5))
    def test_it_never_raises_the_error_and_keeps_the_counts(self, pattern: Pattern, seed: int) -> None:
        W, X = problem(seed=seed)
        H, generator = hessian_of(X), torch.Generator().manual_seed(seed)
        V = W * Target.of(pattern, (24, 40)).mask(torch.rand(24, 40, generator=generator), per="row")
        errors = []
        for swaps in (0, 1, 2, 5, 20, 100):
            refined = exact(W, V, H, pattern.group, swaps)
            errors.append([layer_error(w[None], r[None], H.matrix) for w, r in zip(W, refined, strict=True)])
            width = pattern.group or 40
            assert torch.equal((refined != 0).view(24, -1, width).sum(2), (V != 0).view(24, -1, width).sum(2))
        assert all(
            later <= earlier * (1 + 1e-6)
            for one, two in pairwise(errors)
            for earlier, later in zip(one, two, strict=True)
        )
        assert sum(errors[-1]) < 0.8 * sum(errors[0])

    def test_a_dense_zero_never_takes_the_place_of_a_weight(self) -> None:
        W, X = problem(rows=4, columns=16)
        W[:, ::2] = 0
        V = W.clone()
        V[:, 1:8] = 0
        refined = exact(W, V, hessian_of(X), None, 50)
        assert torch.equal((refined != 0).sum(dim=1), (V != 0).sum(dim=1))

    def test_ties_and_dead_inputs_end(self) -> None:
        W = torch.ones(3, 8)
        V = W.clone()
        V[:, ::2] = 0
        for X in (torch.ones(10, 8), torch.zeros(10, 8)):
            assert torch.equal(exact(W, V, hessian_of(X), None, 100), V)

    def test_rows_that_do_not_fit_together_are_taken_in_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        W, V, X = start(Unstructured(0.5))
        whole = exact(W, V, hessian_of(X), None, 20)
        monkeypatch.setattr(sys.modules[exact.__module__], "PAIRS", 1)
        assert torch.equal(exact(W, V, hessian_of(X), None, 20), whole)


class TestDSnoT:
    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    @pytest.mark.parametrize("swaps", [1, 3, 50])
    @pytest.mark.parametrize("seed", range(3))
    def test_against_the_rule_in_loops(self, pattern: Pattern, swaps: int, seed: int) -> None:
        W, X = problem(rows=8, columns=16, seed=seed)
        X = X + torch.linspace(-1, 1, 16)
        V = W * Target.of(pattern, (8, 16)).mask(W.abs() * X.norm(dim=0), per="row")
        refined = dsnot(W, V, moments_of(X), pattern.group, swaps)
        expected = [
            dsnot_row(w, (v != 0).tolist(), X, pattern.group, swaps, THRESHOLD) for w, v in zip(W, V, strict=True)
        ]
        assert (refined != 0).tolist() == expected
        assert torch.equal(refined, W * (refined != 0))
        assert not torch.equal(refined, V)

    def test_a_row_without_expected_error_is_left(self) -> None:
        W, V, X = start(Unstructured(0.5))
        assert torch.equal(dsnot(W, V, moments_of(X - X.mean(dim=0)), None, 50), V)


class TestStage:
    def refine(self, method: Any, first: Any, pattern: str, **options: Any) -> Any:
        model, data = tiny.llama(), tiny.calibration(teacher=tiny.llama)
        first.prune(model=model, data=data, sparsity=parse_pattern(pattern))
        method.prune(model=model, data=data, sparsity=parse_pattern(pattern))
        return model

    @pytest.mark.parametrize("rule", ["exact", "dsnot"])
    @pytest.mark.parametrize("pattern", ["0.5", "2:4", "1:4"])
    def test_the_pattern_is_kept(self, rule: Any, pattern: str) -> None:
        model = self.refine(Swaps(rule=rule, swaps=5), Wanda(), pattern)
        for layer, target in prunable(model, parse_pattern(pattern)):
            assert int((layer.weight == 0).sum()) == target.zeros
            if target.pattern.group:
                kept = (layer.weight != 0).view(layer.shape[0], -1, 4).sum(dim=2)
                assert (kept == round(4 * (1 - target.pattern.ratio))).all()

    @pytest.mark.parametrize("first", [Wanda(), ALPS(iterations=20)], ids=["wanda", "alps"])
    def test_the_error_of_each_layer_falls(self, first: Any) -> None:
        """By the inputs of the first block, which no stage changes."""
        pattern, dense = Unstructured(0.6), tiny.llama()
        inputs = {}
        for layer, H, _ in calibrated(tiny.llama(), tiny.calibration(), pattern, Hessian, resume=False):
            inputs[layer.name] = H.matrix.clone()
        errors = {}
        for swaps in (0, 100):
            model = self.refine(Swaps(swaps=swaps), first, "0.6")
            W, V = (m.model.layers[0].self_attn.q_proj.weight.detach() for m in (dense, model))
            errors[swaps] = layer_error(W, V, inputs["model.layers.0.self_attn.q_proj"])
        assert errors[100] < errors[0]

    def test_no_swap_leaves_the_model_as_it_was(self) -> None:
        one, other = self.refine(Swaps(swaps=0), Wanda(), "0.5"), tiny.llama()
        Wanda().prune(other, tiny.calibration(), Unstructured(0.5))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))

    def test_dense_weights_do_not_come_back_into_reordered_columns(self) -> None:
        with pytest.raises(ValueError, match=r"the columns of .*down_proj stand in another order than the dense"):
            self.refine(Swaps(), RIA(permutation=True), "2:4")
        assert self.refine(Swaps(), RIA(), "2:4")

    def test_in_a_suite(self, write_suite: Callable[..., Path], tmp_path: Path) -> None:
        """After one method, and after two; masks are counted, and the dense model is had."""
        methods = "methods: [dense, {name: wanda, then: swaps}, {name: alps, then: [swaps, reconstruct]}]"
        records = run_suite(plan(load_suite(write_suite(methods=methods))), tmp_path / "out", SilentDisplay())
        assert [record.error for record in records if record.error] == []
        assert {record.cell.method for record in records} == {"dense", "wanda+swaps", "alps+swaps+reconstruct"}
        assert {record.sparsity.reached for record in records if record.sparsity} == {0, 0.5}

    def test_alone_it_is_refused(self, write_suite: Callable[..., Path]) -> None:
        with pytest.raises(MethodError, match="the method 'swaps' only follows another"):
            plan(load_suite(write_suite(methods="methods: [dense, swaps]")))

    def test_wrong_options(self) -> None:
        with pytest.raises(ValueError, match="swaps -1 is negative: give a count"):
            Swaps(swaps=-1)
