"""ALPS against its textbook form, exact least squares and the methods it should beat."""

import pytest
import torch
from prunebench_plugins.admm import admm
from prunebench_plugins.alps import ALPS, DampedLast, Problem, alps, conjugate_gradients
from torch import Tensor

from prunebench.pruning import NM, Pattern, Target, Unstructured
from prunebench.pruning.callbacks import use_observer
from tests.helpers.layerwise import layer_of, problem, system_of
from tests.helpers.observers import RecordingObserver
from tests.oracles.alps import alps_textbook
from tests.oracles.leastsquares import exact_on_mask, layer_error

PATTERNS = [Unstructured(0.5), Unstructured(0.7), Unstructured(0.9), NM(2, 4), NM(1, 4), NM(4, 8)]


def problem_of(X: Tensor, kind: type[Problem] = Problem) -> Problem:
    statistic = kind(layer_of(torch.zeros(1, X.shape[1])))
    statistic.add(X)
    return statistic


def run_alps(W: Tensor, X: Tensor, pattern: Pattern, steps: int = 10) -> Tensor:
    statistic = problem_of(X)
    scaled = W * statistic.scale
    target = Target.of(pattern, (W.shape[0], W.shape[1]))
    D, support = alps(scaled, statistic, target, rho=0.1, iterations=300)
    return conjugate_gradients(scaled, D, support, statistic.A, steps=steps) / statistic.scale


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_alps_equals_the_textbook(pattern: Pattern, seed: int) -> None:
    W, X = problem(seed=seed)
    nm = (pattern.n, pattern.m) if isinstance(pattern, NM) else None
    pruned = run_alps(W, X, pattern)
    expected = alps_textbook(W.double(), (X.T @ X / len(X)).double(), Target.of(pattern, (24, 40)).zeros, nm)
    assert torch.equal(pruned != 0, expected != 0)
    torch.testing.assert_close(pruned.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_alps_lies_between_admm_and_exact_least_squares_on_its_mask(pattern: Pattern) -> None:
    W, X = problem()
    system = system_of(X)
    target = Target.of(pattern, (24, 40))
    pruned = run_alps(W, X, pattern)
    error = layer_error(W, pruned, system.matrix)
    assert layer_error(W, exact_on_mask(W, system.matrix, pruned != 0), system.matrix) <= error
    assert error < layer_error(W, admm(W, system, target, iterations=20, ramp=0), system.matrix)
    assert int((pruned == 0).sum()) == target.zeros
    if isinstance(pattern, NM):
        assert ((pruned != 0).reshape(-1, pattern.m).sum(dim=1) == pattern.n).all()


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_conjugate_gradients_reach_exact_least_squares(ratio: float) -> None:
    """About as many steps as a row has kept weights solve it."""
    W, X = problem()
    pruned = run_alps(W, X, Unstructured(ratio), steps=25)
    damped = problem_of(X)
    H = damped.A.double() * damped.scale.double() * damped.scale.double()[:, None]
    best = layer_error(W, exact_on_mask(W, H, pruned != 0), H)
    assert best <= layer_error(W, pruned, H) <= 1.0001 * best


def test_alps_permutes_with_its_rows() -> None:
    W, X = problem()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(5))
    for pattern in (Unstructured(0.7), NM(2, 4)):
        torch.testing.assert_close(run_alps(W[order], X, pattern), run_alps(W, X, pattern)[order], rtol=1e-3, atol=1e-4)


def test_duplicated_calibration_data_changes_nothing() -> None:
    W, X = problem()
    for pattern in (Unstructured(0.7), NM(2, 4)):
        torch.testing.assert_close(
            run_alps(W, torch.cat([X, X]), pattern), run_alps(W, X, pattern), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("pattern", [Unstructured(0.5), Unstructured(0.9), NM(2, 4)], ids=str)
def test_dead_inputs_and_one_calibration_token_keep_the_count(pattern: Pattern) -> None:
    W, X = problem()
    X[:, [3, 17]] = 0
    for seen in (X, X[:1], 0 * X[:1]):
        pruned = run_alps(W, seen, pattern)
        assert int((pruned == 0).sum()) == Target.of(pattern, (24, 40)).zeros
        assert torch.isfinite(pruned).all()


def test_damping_is_raised_and_noted_when_the_factorisation_fails() -> None:
    _, X = problem()
    statistic = problem_of(X)
    statistic.A[0, 1] = statistic.A[1, 0] = 1.3  # indefinite
    observer = RecordingObserver()
    with use_observer(observer):
        statistic.factor_with(0.1)
    assert set(observer.messages) == {"damping raised: the Hessian was not positive definite"}


@pytest.mark.parametrize(("ratio", "seed"), [(0.005, 1), (0.01, 0), (0.01, 1), (0.02, 0)])
def test_restarts_equal_the_textbook(ratio: float, seed: int) -> None:
    """Uncorrelated inputs and few zeros: the first checks find little or no change, so ρ falls before it grows."""
    W, _ = problem(rows=32, columns=64, seed=seed)
    X = torch.randn(600, 64, generator=torch.Generator().manual_seed(seed))
    zeros = Target.of(Unstructured(ratio), (32, 64)).zeros
    pruned = run_alps(W, X, Unstructured(ratio))
    expected = alps_textbook(W.double(), (X.T @ X / len(X)).double(), zeros)
    assert torch.equal(pruned != 0, expected != 0)
    torch.testing.assert_close(pruned.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_restart_at_the_end_leaves_the_projection() -> None:
    """The authors' code has set B to the dense weights when its iterations are over."""
    W, _ = problem(rows=32, columns=64)
    X = torch.randn(600, 64, generator=torch.Generator().manual_seed(0))
    statistic, target = problem_of(X), Target.of(Unstructured(0.02), (32, 64))
    scaled = W * statistic.scale
    D, support = alps(scaled, statistic, target, rho=0.1, iterations=3)
    assert torch.equal(support, target.mask(scaled.abs()))
    assert torch.equal(D, scaled * support)


def test_damping_weighs_on_inputs_by_their_size() -> None:
    """It is added before the scale is taken: a small input's unit diagonal holds a larger share of it."""
    _, X = problem()
    X[:, 0] *= 1e-3
    statistic = problem_of(X)
    damping = 0.01 * statistic.matrix.diagonal().mean()
    torch.testing.assert_close(statistic.A.diagonal(), torch.ones(40), rtol=1e-4, atol=0)
    torch.testing.assert_close(statistic.scale, (statistic.matrix.diagonal() + damping).sqrt(), rtol=1e-4, atol=0)


def test_damping_last_gives_all_inputs_the_same() -> None:
    _, X = problem()
    X[:, 0] *= 1e-3
    statistic = problem_of(X, DampedLast)
    torch.testing.assert_close(statistic.A.diagonal(), torch.full((40,), 1.01), rtol=1e-4, atol=0)
    torch.testing.assert_close(statistic.scale, statistic.matrix.diagonal().sqrt(), rtol=1e-4, atol=1e-6)


def test_a_dense_start_begins_with_the_dense_weights() -> None:
    """From D = W and no dual the first B is W itself, whatever ρ."""
    W, X = problem()
    statistic, target = problem_of(X), Target.of(Unstructured(0.7), (24, 40))
    scaled = W * statistic.scale
    D, support = alps(scaled, statistic, target, rho=0.1, iterations=1, start="dense")
    assert torch.equal(support, target.mask(scaled.abs()))
    torch.testing.assert_close(D, scaled * support)
    projected, _ = alps(scaled, statistic, target, rho=0.1, iterations=1)
    assert not torch.allclose(projected, D)


@pytest.mark.parametrize(("options", "message"), [
    ({"rho": 0.0}, "rho 0.0 is outside"),
    ({"iterations": 0}, "iterations 0 is below 1"),
    ({"steps": -1}, "steps -1 is negative"),
    ({"damping": "never"}, "damping 'never' is unknown: valid: first, last"),
    ({"start": "zero"}, "start 'zero' is unknown: valid: projected, dense"),
])  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALPS(**options)  # type: ignore[arg-type]
