"""What a method may know of a layer's inputs: objects that see them once and answer questions later."""

from typing import Protocol

import torch
from torch import Tensor

from prunebench.pruning.layers import Layer
from prunebench.pruning.progress import note

MAX_PERCDAMP = 1.0
SMALLEST_STRIP = 64


class StatisticError(ArithmeticError):
    """A statistic that no method can use; the message names its layer."""


class FactorisationError(StatisticError):
    """A Hessian that no stated amount of damping makes positive definite."""


class Statistic(Protocol):
    """What ``calibrated`` collects. Layers that see the same input share one."""

    def __init__(self, layer: Layer) -> None: ...

    def add(self, X: Tensor) -> None:
        """Take in inputs X (tokens, in)."""


class FeatureNorm:
    """ℓ2 norms of a layer's input features, ‖X_j‖₂ over all calibration tokens (Sun et al., arXiv 2306.11695)."""

    def __init__(self, layer: Layer) -> None:
        self.name = layer.name
        self._squares = torch.zeros(layer.shape[1], dtype=torch.float32, device=layer.parameter.device)
        self.tokens = 0

    def add(self, X: Tensor) -> None:
        """Take in inputs X (tokens, in), any float dtype."""
        self._squares += X.float().square().sum(dim=0)
        self.tokens += X.shape[0]

    @property
    def value(self) -> Tensor:
        """‖X_j‖₂, fp32 (in,).

        Raises:
            StatisticError: it holds NaN or infinity.
        """
        return _finite(self._squares, f"{self.name}: the norm").sqrt()


class Hessian:
    """Second moments of a layer's inputs, H = XᵀX / tokens: the layer-wise least-squares problem's Hessian."""

    def __init__(self, layer: Layer) -> None:
        self.name = layer.name
        self._mean = torch.zeros(layer.shape[1], layer.shape[1], dtype=torch.float32, device=layer.parameter.device)
        self.tokens = 0
        self._whole = True
        self._factors: dict[float, Tensor] = {}

    def add(self, X: Tensor) -> None:
        """Take in inputs X (tokens, in), any float dtype.

        Row strips of the upper triangle, since H is symmetric: about half of the products. The mean is kept by the
        scale factors of the product, which cost nothing.
        """
        if not len(X):
            return
        X = X.float()
        columns = X.shape[1]
        before, self.tokens = self.tokens, self.tokens + len(X)
        strip = max(SMALLEST_STRIP, columns // 8)
        for start in range(0, columns, strip):
            rows = slice(start, min(start + strip, columns))
            self._mean[rows, start:].addmm_(
                X[:, rows].t(), X[:, start:], beta=before / self.tokens, alpha=1 / self.tokens
            )
        self._whole = False
        self._factors.clear()

    @property
    def matrix(self) -> Tensor:
        """H, fp32 (in, in); not to be written to.

        Raises:
            StatisticError: it holds NaN or infinity.
        """
        if not self._whole:
            _finite(self._mean.triu_(), f"{self.name}: the Hessian")
            self._mean += self._mean.triu(1).t()
            self._whole = True
        return self._mean

    @property
    def dead(self) -> Tensor:
        """Inputs that were never active, H_jj = 0; boolean (in,)."""
        return self._mean.diagonal() == 0

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
        diagonal = H.diagonal()
        diagonal[self.dead] = 1
        mean = diagonal.mean().item()
        applied = 0.0
        while True:
            diagonal += (percdamp - applied) * mean
            applied = percdamp
            L, failed = torch.linalg.cholesky_ex(H.flip(0, 1))
            if not failed.item():
                identity = torch.eye(H.shape[0], dtype=H.dtype, device=H.device)
                U: Tensor = torch.linalg.solve_triangular(L.flip(0, 1), identity, upper=True)
                return U
            if percdamp >= MAX_PERCDAMP:
                raise FactorisationError(f"{self.name}: the Hessian is not positive definite with percdamp {percdamp}")
            percdamp = min(max(percdamp * 10, 1e-4), MAX_PERCDAMP)
            note("damping raised: the Hessian was not positive definite", layer=self.name, percdamp=percdamp)


def _finite(tensor: Tensor, what: str) -> Tensor:
    """The tensor, checked: NaN and infinity leave no finite sum of magnitudes."""
    if not torch.isfinite(torch.linalg.vector_norm(tensor, 1, dtype=torch.float64)):
        raise StatisticError(f"{what} of its inputs holds NaN or infinity: check the model and its dtype")
    return tensor
