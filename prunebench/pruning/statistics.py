"""What a method may know of a layer's inputs: objects that see them once and answer questions later."""

from typing import Protocol

import torch
from torch import Tensor

from prunebench.pruning.layers import Layer
from prunebench.pruning.progress import note

MAX_PERCDAMP = 1.0


class FactorisationError(ArithmeticError):
    """A Hessian that no stated amount of damping makes positive definite."""


class Statistic(Protocol):
    """What ``calibrated`` collects. Layers that see the same input share one."""

    def __init__(self, layer: Layer) -> None: ...

    def add(self, X: Tensor) -> None:
        """Take in inputs X (tokens, in)."""


class FeatureNorm:
    """ℓ2 norms of a layer's input features, ‖X_j‖₂ over all calibration tokens (Sun et al., arXiv 2306.11695)."""

    def __init__(self, layer: Layer) -> None:
        self._squares = torch.zeros(layer.shape[1], dtype=torch.float32, device=layer.parameter.device)
        self.tokens = 0

    def add(self, X: Tensor) -> None:
        """Take in inputs X (tokens, in), any float dtype."""
        self._squares += X.float().square().sum(dim=0)
        self.tokens += X.shape[0]

    @property
    def value(self) -> Tensor:
        """‖X_j‖₂, fp32 (in,)."""
        return self._squares.sqrt()


class Hessian:
    """Second moments of a layer's inputs, H = XᵀX / tokens: the layer-wise least-squares problem's Hessian."""

    def __init__(self, layer: Layer) -> None:
        self.name = layer.name
        self._sum = torch.zeros(layer.shape[1], layer.shape[1], dtype=torch.float32, device=layer.parameter.device)
        self.tokens = 0
        self._factors: dict[float, Tensor] = {}

    def add(self, X: Tensor) -> None:
        """Take in inputs X (tokens, in), any float dtype."""
        X = X.float()
        self._sum.addmm_(X.t(), X)
        self.tokens += X.shape[0]
        self._factors.clear()

    @property
    def matrix(self) -> Tensor:
        """H, fp32 (in, in)."""
        return self._sum / max(self.tokens, 1)

    @property
    def dead(self) -> Tensor:
        """Inputs that were never active, H_jj = 0; boolean (in,)."""
        return self._sum.diagonal() == 0

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
            FactorisationError: H is not finite, or still not positive definite with damping 1.
        """
        if percdamp not in self._factors:
            self._factors[percdamp] = self._factorise(percdamp)
        return self._factors[percdamp]

    def _factorise(self, percdamp: float) -> Tensor:
        H = self.matrix
        if not torch.isfinite(H).all():
            raise FactorisationError(f"{self.name}: the Hessian of its inputs holds NaN or infinity")
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
