"""One linear layer by itself, its inputs, and the statistics that layer-wise methods take of them."""

import torch
from prunebench_plugins.admm import System
from torch import Tensor, nn

from prunebench.pruning import Hessian, Layer


def layer_of(W: Tensor) -> Layer:
    """A layer of the toolkit that holds this matrix (out, in)."""
    linear = nn.Linear(W.shape[1], W.shape[0], bias=False)
    with torch.no_grad():
        linear.weight.copy_(W)
    return Layer("linear", linear, linear.weight, transposed=False)


def problem(rows: int = 24, columns: int = 40, tokens: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights, and inputs as correlated as activations are: most of their variance lies in a few directions.

    Returns:
        W (rows, columns) and X (tokens, columns).
    """
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(rows, columns, generator=generator)
    X = torch.randn(tokens, columns // 3, generator=generator) @ torch.randn(columns // 3, columns, generator=generator)
    return W, X / columns**0.5 + 0.3 * torch.randn(tokens, columns, generator=generator)


def hessian_of(X: Tensor) -> Hessian:
    """SparseGPT's statistic of inputs (tokens, columns)."""
    H = Hessian(layer_of(torch.zeros(1, X.shape[1])))
    H.add(X)
    return H


def system_of(X: Tensor) -> System:
    """ADMM's statistic of inputs (tokens, columns)."""
    system = System(layer_of(torch.zeros(1, X.shape[1])))
    system.add(X)
    return system
