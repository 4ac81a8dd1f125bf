"""Products with matrices of a block that no call of a module shows: their inputs, as they are multiplied."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from prunebench.pruning.experts import first_of_experts
from prunebench.pruning.layers import Layer

_PRODUCTS = (  # of the last two tensors that they are given
    *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm, Tensor.addmm, Tensor.baddbmm),
)


class Products(TorchFunctionMode):
    """Inside this context, the inputs of every product with one of these layers' matrices are shown.

    Seen are products of X with a layer's parameter, or with one of the matrices it holds, in the layout in which they
    are stored: ``linear(X, W)``, ``W @ X``, ``X @ W`` where W is stored as (in, out), and their batched forms.

    Args:
        layers: whose inputs are wanted.
        show: called with a layer and its inputs X (tokens, in); rows of zeros, of tokens that are routed elsewhere, are
            left out of an expert's.
    """

    def __init__(self, layers: Sequence[Layer], show: Callable[[Layer, Tensor], None]) -> None:
        super().__init__()
        self._show = show
        self._layers: dict[int, list[Layer]] = {}
        for layer in layers:
            self._layers.setdefault(_address(layer.parameter), []).append(layer)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Look at the operands of a product, and compute it."""
        if func is torch.nn.functional.linear:
            self._see(args[0], args[1], transposed=False)
        elif func in _PRODUCTS:
            first, second = [one for one in (*args, *(kwargs or {}).values()) if isinstance(one, Tensor)][-2:]
            self._see(first, second, transposed=True)
            self._see(second.transpose(-1, -2) if second.dim() > 1 else second, first, transposed=False)
        return func(*args, **(kwargs or {}))

    def _see(self, X: Tensor, W: Tensor, *, transposed: bool) -> None:
        """Show X (…, in) to the layers whose matrices W holds."""
        if not W.is_floating_point() or not W.numel():
            return
        for layer in self._layers.get(_address(W), ()):
            if layer.transposed is not transposed:
                continue
            if layer.expert is None:
                self._show(layer, X.reshape(-1, X.shape[-1]))
            elif W.dim() == layer.parameter.dim():
                self._show(layer, _routed(layer, X[layer.expert]))
            elif W.storage_offset() == layer.parameter[layer.expert].storage_offset():
                self._show(layer, _routed(layer, X.reshape(-1, X.shape[-1])))


def _address(tensor: Tensor) -> int:
    """Where the memory begins that a tensor or a view of it lies in."""
    return tensor.untyped_storage().data_ptr()


def _routed(layer: Layer, X: Tensor) -> Tensor:
    """The rows of X that a router sent here; those of other tokens are zero."""
    return X if first_of_experts(layer.module) is None else X[X.any(dim=-1)]
