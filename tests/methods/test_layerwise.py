"""Wanda, SparseGPT and ADMM against independent statements of what they compute."""

import pytest
import torch
from prunebench_plugins.admm import ADMM, admm, partial_mask
from prunebench_plugins.alps import ALPS
from prunebench_plugins.sparsegpt import sparsegpt
from prunebench_plugins.wanda import Wanda, wanda_scores
from torch import Tensor

from prunebench.pruning import NM, Hessian, Pattern, Target, Unstructured, prunable
from prunebench.pruning.callbacks import use_observer
from prunebench.runner.events import EventRecorder, Silent
from tests.helpers import tiny
from tests.helpers.layerwise import hessian_of, problem, system_of
from tests.oracles.admm import admm_textbook
from tests.oracles.leastsquares import exact_on_mask, layer_error
from tests.oracles.sparsegpt import sparsegpt_on_mask, sparsegpt_textbook
from tests.oracles.walk import walk_textbook
from tests.oracles.wanda import wanda_row_mask, wanda_textbook

PATTERNS = [Unstructured(0.5), Unstructured(0.7), Unstructured(0.9), NM(2, 4), NM(1, 4)]


def run_sparsegpt(W: Tensor, H: Hessian, pattern: Pattern, blocksize: int = 128, percdamp: float = 0.01) -> Tensor:
    target = Target.of(pattern, (W.shape[0], W.shape[1]))
    return sparsegpt(W, H.factor(percdamp), target, dead=H.dead, blocksize=blocksize)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("blocksize", [8, 16, 128])
def test_sparsegpt_with_identity_hessian_is_magnitude_within_a_tile(pattern: Pattern, blocksize: int) -> None:
    W, _ = problem()
    identity = torch.eye(40)
    target = Target.of(pattern, (24, 40))
    pruned = sparsegpt(W, identity, target, dead=torch.zeros(40, dtype=torch.bool), blocksize=blocksize)
    for start in range(0, 40, blocksize):
        end = min(start + blocksize, 40)
        mask = target.columns(start, end).mask(W[:, start:end].abs())
        assert torch.equal(pruned[:, start:end], W[:, start:end] * mask)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("blocksize", [8, 12, 128])
def test_sparsegpt_updates_as_optimal_brain_surgeon_does(pattern: Pattern, blocksize: int) -> None:
    """Tiles and the Cholesky factor are a faster way to the same weights."""
    W, X = problem()
    H = hessian_of(X)
    pruned = run_sparsegpt(W, H, pattern, blocksize=blocksize)
    damped = H.matrix + 0.01 * H.matrix.diagonal().mean() * torch.eye(40)
    expected = sparsegpt_on_mask(W, damped, pruned != 0)
    torch.testing.assert_close(pruned.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", [*PATTERNS, NM(4, 8)], ids=str)
@pytest.mark.parametrize("blocksize", [8, 40, 64])
def test_sparsegpt_equals_the_textbook(pattern: Pattern, blocksize: int) -> None:
    W, X = problem(columns=160)
    zeros = Target.of(pattern, (24, 160)).zeros
    nm = (pattern.n, pattern.m) if isinstance(pattern, NM) else None
    pruned = run_sparsegpt(W, hessian_of(X), pattern, blocksize=blocksize)
    expected = sparsegpt_textbook(W.double(), (X.T @ X / len(X)).double(), zeros, nm, blocksize=blocksize)
    assert torch.equal(pruned != 0, expected != 0)
    torch.testing.assert_close(pruned.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_sparsegpt_lies_between_wanda_and_exact_least_squares(pattern: Pattern, seed: int) -> None:
    W, X = problem(seed=seed)
    H = hessian_of(X)
    target = Target.of(pattern, (24, 40))
    wanda = W * target.mask(wanda_scores(W, X.norm(dim=0)), per="row")
    pruned = run_sparsegpt(W, H, pattern)
    exact = exact_on_mask(W, H.matrix, pruned != 0)
    assert layer_error(W, exact, H.matrix) <= layer_error(W, pruned, H.matrix) < layer_error(W, wanda, H.matrix)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_sparsegpt_counts_are_exact_with_dead_inputs(pattern: Pattern) -> None:
    W, X = problem()
    X[:, [3, 17, 18]] = 0
    H = hessian_of(X)
    assert H.dead.nonzero().flatten().tolist() == [3, 17, 18]
    pruned = run_sparsegpt(W, H, pattern, blocksize=8)
    assert int((pruned == 0).sum()) == Target.of(pattern, (24, 40)).zeros
    assert torch.isfinite(pruned).all()
    if isinstance(pattern, Unstructured):
        assert not pruned[:, 3].any()  # the first to go: its tile prunes more than one column


def test_sparsegpt_permutes_with_its_rows() -> None:
    W, X = problem()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(5))
    pattern = NM(2, 4)  # an unstructured tile's share depends on no order either, but its ties might
    torch.testing.assert_close(
        run_sparsegpt(W[order], hessian_of(X), pattern), run_sparsegpt(W, hessian_of(X), pattern)[order]
    )


def test_sparsity_zero_changes_nothing() -> None:
    W, X = problem()
    assert torch.equal(run_sparsegpt(W, hessian_of(X), Unstructured(0.0)), W)


def test_duplicated_calibration_data_changes_nothing() -> None:
    W, X = problem()
    once, twice = hessian_of(X), hessian_of(torch.cat([X, X]))
    torch.testing.assert_close(
        run_sparsegpt(W, once, Unstructured(0.5)), run_sparsegpt(W, twice, Unstructured(0.5)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_wandas_mask_by_brute_force(ratio: float) -> None:
    W, X = problem(rows=10)
    mask = Target.of(Unstructured(ratio), (10, 40)).mask(wanda_scores(W, X.norm(dim=0)), per="row")
    for w, kept in zip(W, mask, strict=True):
        assert wanda_row_mask(w, X, int(kept.sum())) == kept.tolist()


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_wanda_equals_the_textbook(ratio: float) -> None:
    W, X = problem(rows=33)
    target = Target.of(Unstructured(ratio), (33, 40))
    mask = target.mask(wanda_scores(W, X.norm(dim=0)), per="row")
    assert torch.equal(W * mask, wanda_textbook(W, X.norm(dim=0), target.zeros))


def test_the_block_walk_equals_the_textbook() -> None:
    """A whole model under Wanda: shared statistics, batches and one buffer are a faster way to the same weights."""
    ours, theirs = tiny.llama(), tiny.llama()
    pattern, data = Unstructured(0.7), tiny.calibration()
    Wanda().prune(ours, data, pattern)
    walk_textbook(
        theirs,
        data.windows,
        lambda X: X.square().sum(dim=0),
        lambda W, squares: wanda_textbook(W, squares.sqrt(), pattern.zeros((W.shape[0], W.shape[1]))),
    )
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("pattern", [*PATTERNS, NM(4, 8)], ids=str)
@pytest.mark.parametrize("ramp", [0, 15])
def test_admm_equals_the_textbook(pattern: Pattern, ramp: int) -> None:
    W, X = problem()
    target = Target.of(pattern, (24, 40))
    nm = (pattern.n, pattern.m) if isinstance(pattern, NM) else None
    pruned = admm(W, system_of(X), target, iterations=20, ramp=ramp)
    expected = admm_textbook(W.double(), (X.T @ X / len(X)).double(), target.zeros, iterations=20, ramp=ramp, nm=nm)
    assert torch.equal(pruned != 0, expected != 0)
    torch.testing.assert_close(pruned.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pattern", [Unstructured(0.7), Unstructured(0.9), NM(2, 4), NM(1, 4)], ids=str)
def test_admm_lies_between_sparsegpt_and_exact_least_squares(pattern: Pattern) -> None:
    W, X = problem()
    system = system_of(X)
    target = Target.of(pattern, (24, 40))
    pruned = admm(W, system, target, iterations=20, ramp=0)
    exact = exact_on_mask(W, system.matrix, pruned != 0)
    error = layer_error(W, pruned, system.matrix)
    assert layer_error(W, exact, system.matrix) <= error
    assert error < layer_error(W, run_sparsegpt(W, hessian_of(X), pattern), system.matrix)
    assert int((pruned == 0).sum()) == target.zeros


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_partial_mask_holds_the_patterns_own(pattern: Pattern, share: float) -> None:
    """As many zeros as the share says, all of them among the pattern's, and the lowest scores of those."""
    scores = problem()[0].abs()
    target = Target.of(pattern, (24, 40))
    mask, final = partial_mask(scores, target, share), target.mask(scores)
    assert int((~mask).sum()) == int(target.zeros * share)
    assert not (final & ~mask).any()
    revived = mask & ~final
    if revived.any() and not mask.all():
        assert scores[~mask].max() < scores[revived].min()


@pytest.mark.parametrize("ramp", [0, 3])
@pytest.mark.parametrize("pattern", [Unstructured(0.7), NM(2, 4)], ids=str)
def test_admm_reaches_the_pattern_however_few_iterations_it_has(pattern: Pattern, ramp: int) -> None:
    W, X = problem()
    target = Target.of(pattern, (24, 40))
    for iterations in (3, 14, 15):
        pruned = admm(W, system_of(X), target, iterations=iterations, ramp=ramp)
        assert int((pruned == 0).sum()) == target.zeros


def test_admm_with_a_dead_input_keeps_the_count() -> None:
    W, X = problem()
    X[:, 5] = 0
    target = Target.of(Unstructured(0.5), (24, 40))
    pruned = admm(W, system_of(X), target, iterations=20, ramp=0)
    assert int((pruned == 0).sum()) == target.zeros
    assert torch.isfinite(pruned).all()


def run_admm(W: Tensor, X: Tensor, pattern: Pattern) -> Tensor:
    return admm(W, system_of(X), Target.of(pattern, (W.shape[0], W.shape[1])), iterations=20, ramp=0)


@pytest.mark.parametrize("pattern", [Unstructured(0.7), NM(2, 4)], ids=str)
def test_admm_permutes_with_its_rows_and_counts_tokens_once(pattern: Pattern) -> None:
    W, X = problem()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(5))
    once = run_admm(W, X, pattern)
    torch.testing.assert_close(run_admm(W[order], X, pattern), once[order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(run_admm(W, torch.cat([X, X]), pattern), once, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_one_calibration_token_is_enough_for_a_result(pattern: Pattern) -> None:
    W, X = problem()
    wanted = Target.of(pattern, (24, 40)).zeros
    for pruned in (run_sparsegpt(W, hessian_of(X[:1]), pattern), run_admm(W, X[:1], pattern)):
        assert int((pruned == 0).sum()) == wanted
        assert torch.isfinite(pruned).all()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_no_group_is_violated(n: int, m: int) -> None:
    W, X = problem()
    for pruned in (run_sparsegpt(W, hessian_of(X), NM(n, m), blocksize=16), run_admm(W, X, NM(n, m))):
        assert ((pruned != 0).reshape(-1, m).sum(dim=1) == n).all()


def test_methods_that_hold_the_hessian_tell_what_each_layer_loses() -> None:
    """‖X(W − Ŵ)ᵀ‖² / ‖XWᵀ‖² of the first layer, whose inputs no earlier pruning changes, by a product of its own."""
    for method in (ADMM(), ALPS()):
        model, observer = tiny.llama(), EventRecorder(Silent())
        layer, data = model.model.layers[0].self_attn.q_proj, tiny.calibration()
        inputs: list[torch.Tensor] = []
        hook = layer.register_forward_hook(lambda _, args, __, seen=inputs: seen.append(args[0].flatten(0, 1)))
        with torch.no_grad():
            model(data.windows)
        hook.remove()
        W, X = layer.weight.detach().clone(), torch.cat(inputs)
        with use_observer(observer):
            method.prune(model=model, data=data, sparsity=Unstructured(0.7))
        lost = (X @ (W - layer.weight.detach()).t()).square().sum() / (X @ W.t()).square().sum()
        errors = observer.amounts["layer_error"]
        assert errors["model.layers.0.self_attn.q_proj"] == pytest.approx(float(lost), rel=1e-3)
        assert len(errors) == len(list(prunable(model, Unstructured(0.7))))
        assert all(0 < error < 1 for error in errors.values())
