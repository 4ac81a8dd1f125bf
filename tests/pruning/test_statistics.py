"""Statistics of a layer's inputs, against their definitions."""

import pytest
import torch

from prunebench.pruning import (
    FactorisationError,
    FeatureNorm,
    Hessian,
    StatisticError,
)
from prunebench.pruning.callbacks import use_observer
from tests.helpers.layerwise import layer_of
from tests.helpers.observers import RecordingObserver


def test_statistics_are_what_they_say() -> None:
    X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    layer = layer_of(torch.zeros(3, 6))
    H, norm = Hessian(layer), FeatureNorm(layer)
    for part in X.split(20):
        H.add(part)
        norm.add(part)
    torch.testing.assert_close(H.matrix, X.T @ X / 50)
    torch.testing.assert_close(norm.value, X.norm(dim=0))
    U = H.factor(0.01)
    damped = H.matrix + 0.01 * H.matrix.diagonal().mean() * torch.eye(6)
    torch.testing.assert_close(U.T @ U, torch.linalg.inv(damped), rtol=1e-4, atol=1e-5)
    assert torch.equal(U, U.triu())
    assert H.factor(0.01) is U


def test_damping_is_raised_and_noted() -> None:
    observer = RecordingObserver()
    H = Hessian(layer_of(torch.zeros(1, 4)))
    H.add(torch.ones(3, 4))  # rank one
    with use_observer(observer):
        U = H.factor(0.0)
    assert torch.isfinite(U).all()
    assert observer.messages == ["damping raised: the Hessian was not positive definite"]


def test_an_indefinite_matrix_is_given_up_on_after_the_stated_damping() -> None:
    observer = RecordingObserver()
    H = Hessian(layer_of(torch.zeros(1, 3)))
    H.add(torch.ones(3, 3))
    H.matrix[0, 1] = H.matrix[1, 0] = 9.0
    with use_observer(observer), pytest.raises(FactorisationError, match=r"linear: .*percdamp 1\.0"):
        H.factor(0.01)
    assert [where["percdamp"] for _, where in observer.notes] == [0.1, 1.0]


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf")])
def test_a_statistic_with_nan_names_its_layer(spoiled: float) -> None:
    X = torch.ones(3, 4)
    X[1, 2] = spoiled
    H, norm = Hessian(layer_of(torch.zeros(1, 4))), FeatureNorm(layer_of(torch.zeros(1, 4)))
    H.add(X)
    norm.add(X)
    for ask in (lambda: H.matrix, lambda: H.factor(0.01), lambda: norm.value):
        with pytest.raises(StatisticError, match=r"linear: .*NaN"):
            ask()


@pytest.mark.parametrize("columns", [3, 64, 200])
def test_a_hessian_of_strips_is_the_whole_matrix(columns: int) -> None:
    X = torch.randn(50, columns, generator=torch.Generator().manual_seed(0))
    H = Hessian(layer_of(torch.zeros(1, columns)))
    H.add(X[:20])
    # Asked for between two parts. Within a strip some processors sum (i, j) and (j, i) in different orders.
    torch.testing.assert_close(H.matrix, H.matrix.t(), rtol=1e-5, atol=1e-6)
    H.add(X[:0])
    H.add(X[20:])
    torch.testing.assert_close(H.matrix, X.T @ X / 50, rtol=1e-5, atol=1e-6)
    assert H.tokens == 50
