"""Statistics of a layer's inputs: objects that are shown the inputs batch by batch and compute results on request."""

from typing import Any, Protocol

import torch
from torch import Tensor

from prunebench.pruning.callbacks import note
from prunebench.pruning.layers import Layer

MAX_PERCDAMP = 1.0
SMALLEST_STRIP = 64
SMALLEST_HALF = 256
HALF_PRECISION = (torch.bfloat16, torch.float16)


class StatisticError(ArithmeticError):
    """A statistic that no method can use, such as one with NaN; the message names its layer."""


class FactorisationError(StatisticError):
    """A Hessian that is not positive definite even with the highest damping."""


class Statistic(Protocol):
    """What ``calibrated`` collects for each layer; layers that read the same input share one.

    One that also has ``add_pair(X, D)`` is called with the dense model's inputs D (tokens, in) of the same tokens
    beside X, in place of ``add``, by ``blocks(..., dense=True)``.
    """

    def __init__(self, layer: Layer) -> None: ...

    def add(self, X: Tensor) -> None:
        """Include inputs X (tokens, in)."""


def show(statistic: Any, X: Tensor, D: Tensor | None = None) -> None:
    """Show inputs X (…, in) to a statistic, with the dense model's D (…, in) where there is one and it takes pairs."""
    X = X.reshape(-1, X.shape[-1])
    if D is not None and hasattr(statistic, "add_pair"):
        statistic.add_pair(X, D.reshape(-1, D.shape[-1]))
    else:
        statistic.add(X)


class FeatureNorm:
    """ℓ2 norms of a layer's input features, ‖X_j‖₂ over all calibration tokens (Sun et al., arXiv 2306.11695)."""

    def __init__(self, layer: Layer) -> None:
        self.name = layer.name
        self._squares = torch.zeros(layer.shape[1], dtype=torch.float32, device=layer.parameter.device)
        self.tokens = 0

    def add(self, X: Tensor) -> None:
        """Include inputs X (tokens, in), any float dtype."""
        self._squares += X.float().square().sum(dim=0)
        self.tokens += X.shape[0]

    @property
    def value(self) -> Tensor:
        """‖X_j‖₂, fp32 (in,).

        Raises:
            StatisticError: it holds NaN or infinity.
        """
        return _checked_finite(self._squares, f"{self.name}: the norm").sqrt()


class FeatureMoments:
    """Mean, variance and norm of each of a layer's input features over all calibration tokens.

    Batches are merged as by Chan, Golub and LeVeque (1983), which loses no digits where the mean is large.
    """

    def __init__(self, layer: Layer) -> None:
        self.name = layer.name
        self._mean, self._spread, self._squares = torch.zeros(
            3, layer.shape[1], dtype=torch.float32, device=layer.parameter.device
        )
        self.tokens = 0

    def add(self, X: Tensor) -> None:
        """Include inputs X (tokens, in), any float dtype."""
        if not len(X):
            return
        X = X.float()
        before, self.tokens = self.tokens, self.tokens + len(X)
        variance, mean = torch.var_mean(X, dim=0, correction=0)
        moved = mean - self._mean
        self._mean += moved * (len(X) / self.tokens)
        self._spread += variance * len(X) + moved.square() * (before * len(X) / self.tokens)
        self._squares += X.square().sum(dim=0)

    @property
    def mean(self) -> Tensor:
        """Mean of each feature, fp32 (in,).

        Raises:
            StatisticError: it holds NaN or infinity.
        """
        return _checked_finite(self._mean, f"{self.name}: the mean")

    @property
    def variance(self) -> Tensor:
        """Mean squared distance of each feature from its mean, fp32 (in,).

        Raises:
            StatisticError: it holds NaN or infinity.
        """
        return _checked_finite(self._spread, f"{self.name}: the variance") / max(self.tokens, 1)

    @property
    def norm(self) -> Tensor:
        """‖X_j‖₂, fp32 (in,), as ``FeatureNorm.value``.

        Raises:
            StatisticError: it holds NaN or infinity.
        """
        return _checked_finite(self._squares, f"{self.name}: the norm").sqrt()


class Hessian:
    """Second moments of a layer's inputs, H = XᵀX / tokens: the layer-wise least-squares problem's Hessian."""

    def __init__(self, layer: Layer) -> None:
        self.name = layer.name
        self._mean = torch.zeros(layer.shape[1], layer.shape[1], dtype=torch.float32, device=layer.parameter.device)
        self.tokens = 0
        self._lower_is_current = True
        self._factors: dict[float, Tensor] = {}

    def add(self, X: Tensor) -> None:
        """Include inputs X (tokens, in), any float dtype.

        Computes row strips of the upper triangle, since H is symmetric: about half of the products. The running mean
        comes from the scale factors of the product, which cost nothing. On CUDA inputs in half precision are multiplied
        as they are: a product of two such numbers is exact in fp32, in which tensor cores sum them.
        """
        if not len(X):
            return
        before, self.tokens = self.tokens, self.tokens + len(X)
        if X.is_cuda and X.dtype in HALF_PRECISION and hasattr(torch.ops.aten.mm, "dtype"):  # torch 2.8
            product = torch.mm(X.t(), X, out_dtype=torch.float32)
            self._mean.mul_(before / self.tokens).add_(product, alpha=1 / self.tokens)
        else:
            X = X.float()
            for rows in self._strips():
                self._mean[rows, rows.start :].addmm_(
                    X[:, rows].t(), X[:, rows.start :], beta=before / self.tokens, alpha=1 / self.tokens
                )
        self._lower_is_current = False
        self._factors.clear()

    @property
    def matrix(self) -> Tensor:
        """H, fp32 (in, in); not to be written to.

        Raises:
            StatisticError: it holds NaN or infinity.
        """
        if not self._lower_is_current:
            for rows in self._strips():
                self._mean[rows.stop :, rows] = self._mean[rows, rows.stop :].t()
            self._lower_is_current = True
        return _checked_finite(self._mean, f"{self.name}: the Hessian")

    def _strips(self) -> list[slice]:
        """Consecutive rows that one product computes together."""
        columns = len(self._mean)
        height = max(SMALLEST_STRIP, columns // 8)
        return [slice(start, min(start + height, columns)) for start in range(0, columns, height)]

    @property
    def dead(self) -> Tensor:
        """Inputs that were zero for every token, H_jj = 0; boolean (in,)."""
        return self._mean.diagonal() == 0

    def output_error(self, W: Tensor, pruned: Tensor) -> float:
        """The share of a layer's output that pruning loses, ‖X(W − Ŵ)ᵀ‖² / ‖XWᵀ‖² = tr(ΔHΔᵀ) / tr(WHWᵀ).

        Args:
            W, pruned: the weights before and after, fp32 (out, in).
        """
        lost, output = (((M @ self.matrix) * M).sum() for M in (W - pruned, W))
        return float(lost / output) if output > 0 else 0.0

    def factor(self, percdamp: float) -> Tensor:
        """Upper Cholesky factor of the damped inverse, computed once for all layers that share this statistic.

        U with UᵀU = (H + percdamp · mean(diag H) · I)⁻¹, where a dead input's H_jj counts as 1. Flipping rows and
        columns turns H = LLᵀ into H = RRᵀ with R upper, and U = R⁻¹: one factorisation and one triangular inverse
        instead of factorise, invert, factorise.

        Args:
            percdamp: damping as a share of the mean diagonal. Raised tenfold, and noted, while the factorisation
                fails.

        Returns:
            U, fp32 (in, in), upper triangular.

        Raises:
            StatisticError: H holds NaN or infinity.
            FactorisationError: H is still not positive definite with damping 1.
        """
        if percdamp not in self._factors:
            self._factors[percdamp] = self._factorise(percdamp)
        return self._factors[percdamp]

    def _factorise(self, percdamp: float) -> Tensor:
        H = self.matrix.clone()
        H.diagonal()[self.dead] = 1
        L = damped_cholesky(H.flip(0, 1), percdamp, self.name)
        return _inverse_of_upper(L.flip(0, 1))


def damped_cholesky(A: Tensor, percdamp: float, name: str) -> Tensor:
    """Lower Cholesky factor of A + percdamp · mean(diag A) · I. Damping is raised tenfold, and noted, while it fails.

    Args:
        A: symmetric, fp32 (in, in); overwritten.
        percdamp: damping as a share of the mean diagonal, to begin with.
        name: the layer's, for messages.

    Returns:
        L, fp32 (in, in), lower triangular.

    Raises:
        FactorisationError: A is still not positive definite with damping 1.
    """
    diagonal = A.diagonal()
    mean = diagonal.mean().item()
    applied = 0.0
    while True:
        diagonal += (percdamp - applied) * mean
        applied = percdamp
        L, failed = torch.linalg.cholesky_ex(A)
        if not failed.item():
            factor: Tensor = L
            return factor
        if percdamp >= MAX_PERCDAMP:
            raise FactorisationError(f"{name}: the Hessian is not positive definite with percdamp {percdamp}")
        percdamp = min(max(percdamp * 10, 1e-4), MAX_PERCDAMP)
        note("damping raised: the Hessian was not positive definite", layer=name, percdamp=percdamp)


def _inverse_of_upper(R: Tensor) -> Tensor:
    """Inverse of an upper triangular matrix by halves, most of it products: n³/3, where a solve for I takes n³."""
    if len(R) <= SMALLEST_HALF:
        inverse: Tensor = torch.linalg.solve_triangular(
            R, torch.eye(len(R), dtype=R.dtype, device=R.device), upper=True
        )
        return inverse
    half = len(R) // 2
    inverse = torch.zeros_like(R)
    inverse[:half, :half] = _inverse_of_upper(R[:half, :half])
    inverse[half:, half:] = _inverse_of_upper(R[half:, half:])
    inverse[:half, half:] = -(inverse[:half, :half] @ R[:half, half:]) @ inverse[half:, half:]
    return inverse


def _checked_finite(tensor: Tensor, what: str) -> Tensor:
    """The tensor; raises StatisticError where it holds NaN or infinity, which make its sum not finite."""
    if not torch.isfinite(tensor.sum()):
        raise StatisticError(f"{what} of its inputs holds NaN or infinity: check the model and its dtype")
    return tensor
