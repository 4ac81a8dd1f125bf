"""The inputs of one block's layers, shown to a statistic of each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from prunebench.pruning.experts import are_experts, first_of_experts
from prunebench.pruning.layers import Layer
from prunebench.pruning.products import Products
from prunebench.pruning.routing import ExpertTokens, layer_inputs
from prunebench.pruning.statistics import Statistic, show

S = TypeVar("S", bound=Statistic)
Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments of a module's call."""


class StopForward(Exception):  # noqa: N818 - no error
    """Ends a forward pass whose remaining outputs are not needed."""


@torch.no_grad()
def layer_statistics(
    layers: list[Layer],
    statistic: Callable[[Layer], S],
    batches: int,
    run: Callable[[int], object],
    expert_tokens: ExpertTokens,
    run_dense: Callable[[int], object] | None = None,
) -> dict[str, S]:
    """Show the inputs of each layer of a block to its statistic; layers that read the same tensor share one.

    Args:
        layers: of the block.
        statistic: makes one for a layer.
        batches: how many there are.
        run: runs the block for the batch of this number.
        expert_tokens: counts the tokens of experts.
        run_dense: runs it on the inputs of the dense model; a statistic with ``add_pair`` is then shown both.

    Returns:
        Statistics by layer name, in the order of ``layers``.
    """
    shown = _Shown(layers, statistic, expert_tokens)

    def run_once(batch: int, hooks: Mapping[nn.Module, Callable[..., None]], outside: list[Layer]) -> None:
        """Run the block with these hooks, and with an eye on the products of layers that they do not see."""
        with _pre_hooks(hooks), Products(outside, shown.show_product), suppress(StopForward):
            run(batch)

    for batch in range(batches):
        dense: dict[nn.Module, Call] = {}
        if run_dense is not None:
            with (
                _pre_hooks({module: _keep_in(dense) for module in shown.by_module}),
                shown.dense_products(shown.outside),
            ):
                run_dense(batch)
        # In the first batch it shows which layers read the same tensor, and which module is called last.
        hook = shown.first_hook if batch == 0 else shown.later_hook
        readers = shown.by_module if batch == 0 else shown.readers
        run_once(batch, {module: hook(members, dense) for module, members in readers.items()}, shown.outside)
        if batch == 0 and (uncalled := shown.uncalled()):
            if run_dense is not None:
                with shown.dense_products(uncalled):
                    run_dense(batch)
            run_once(batch, {}, uncalled)
            shown.settle()
    return shown.report(paired=run_dense is not None)


class _Shown:
    """Which statistic is shown the inputs of which layer."""

    def __init__(self, layers: list[Layer], statistic: Callable[[Layer], S], expert_tokens: ExpertTokens) -> None:
        self._layers, self._statistic, self._expert_tokens = layers, statistic, expert_tokens
        self._statistics: dict[str, Any] = {}
        self._inputs: list[tuple[Tensor, Any]] = []  # keeps them alive, so that equal addresses mean equal tensors
        self._first_readers: list[Layer] = []  # of each input tensor, in calling order
        self.by_module: dict[nn.Module, list[Layer]] = {}
        self.outside: list[Layer] = []  # layers whose products no call of a module shows
        self._dense_products: dict[str, list[Tensor]] = {}
        for layer in layers:
            if layer.expert is None or are_experts(layer.module):
                self.by_module.setdefault(layer.module, []).append(layer)
            else:
                self.outside.append(layer)

    def uncalled(self) -> list[Layer]:
        """The first batch was seen: layers of which it showed nothing, whose products are looked for from now on."""
        self._inputs.clear()
        missing = [layer for layer in self._layers if layer.name not in self._statistics]
        self.outside += [layer for layer in missing if layer not in self.outside]
        return missing

    def settle(self) -> None:
        """The first batch was seen again.

        Raises:
            RuntimeError: a layer's matrix multiplied nothing.
        """
        if missing := [layer.name for layer in self._layers if layer.name not in self._statistics]:
            raise RuntimeError(f"{missing[0]} is never called when its block runs: it cannot be calibrated")

    def show_product(self, layer: Layer, X: Tensor) -> None:
        """Show the inputs of a product, with those of the dense model's where they are wanted."""
        if layer.name not in self._statistics:
            self._statistics[layer.name] = self._statistic(layer)
        waiting = self._dense_products.get(layer.name)
        self._show(layer, X, waiting.pop(0) if waiting else None)

    def dense_products(self, layers: list[Layer]) -> Products:
        """Inside this context, the inputs of the dense model's products are kept for those of the pruned one.

        Raises:
            RuntimeError: tokens are routed to one of the layers, other ones in the dense model.
        """
        if routed := next((layer for layer in layers if _is_routed(layer)), None):
            raise RuntimeError(
                f"{routed.name}: the dense model routes other tokens to it than the pruned one, and pairs of inputs "
                f"are not known for a {type(routed.module).__name__}"
            )
        self._dense_products = {layer.name: [] for layer in layers}
        return Products(layers, lambda layer, X: self._dense_products[layer.name].append(X))

    @property
    def readers(self) -> dict[nn.Module, list[Layer]]:
        """The first reader of each input tensor, by module."""
        reading = set(self._first_readers)
        found = {module: [one for one in row if one in reading] for module, row in self.by_module.items()}
        return {module: row for module, row in found.items() if row}

    def first_hook(self, layers: list[Layer], dense: Mapping[nn.Module, Call]) -> Callable[..., None]:
        """Make a statistic for each input tensor, and show it."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for layer, X, D in layer_inputs(layers, args, kwargs, dense.get(module)):
                shared = [seen for tensor, seen in self._inputs if layer.expert is None and _same_storage(tensor, X)]
                self._statistics[layer.name] = seen = shared[0] if shared else self._statistic(layer)
                if not shared:
                    self._show(layer, X, D)
                    self._first_readers.append(layer)
                    if layer.expert is None:
                        self._inputs.append((X, seen))

        return hook

    def later_hook(self, layers: list[Layer], dense: Mapping[nn.Module, Call]) -> Callable[..., None]:
        """Show the inputs of further batches."""
        last = None if self.outside else self._first_readers[-1].module  # a product may come after it

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for layer, X, D in layer_inputs(layers, args, kwargs, dense.get(module)):
                self._show(layer, X, D)
            if module is last:
                raise StopForward

        return hook

    def _show(self, layer: Layer, X: Tensor, D: Tensor | None) -> None:
        """Show a layer's inputs to its statistic; an expert that no token of the batch is routed to has none."""
        if _is_routed(layer):
            self._expert_tokens.count(layer, len(X))
        if len(X):
            show(self._statistics[layer.name], X, D)

    def report(self, *, paired: bool) -> dict[str, Any]:
        """Note experts that saw few tokens; returns the statistics."""
        found = {layer.name: self._statistics[layer.name] for layer in self._layers}
        experts = [
            (layer, found[layer.name]) for layer in self._layers if layer.expert is not None and _is_routed(layer)
        ]
        self._expert_tokens.report(experts, paired=paired)
        return found


def _is_routed(layer: Layer) -> bool:
    """Whether a router sends tokens to one of several matrices."""
    return layer.expert is not None and first_of_experts(layer.module) is not None


def _keep_in(calls: dict[nn.Module, Call]) -> Callable[..., None]:
    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[module] = (args, kwargs)

    return keep


@contextmanager
def _pre_hooks(hooks: Mapping[nn.Module, Callable[..., None]]) -> Iterator[None]:
    """Register these forward pre-hooks inside this context."""
    handles = [module.register_forward_pre_hook(hook, with_kwargs=True) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _same_storage(one: Tensor, other: Tensor) -> bool:
    """Whether two live tensors are the same numbers in the same memory."""
    return one is other or (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
    )
