"""The inputs of the experts of a mixture: the tokens that a router sends to each, and how many they are."""

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from prunebench.pruning.callbacks import account, note
from prunebench.pruning.experts import first_of_experts, weight_names
from prunebench.pruning.layers import Layer
from prunebench.pruning.statistics import Statistic, show


def layer_inputs(
    layers: Sequence[Layer],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    dense: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None,
) -> Iterator[tuple[Layer, Tensor, Tensor | None]]:
    """The inputs that matrices of one module multiply when the module is called.

    Args:
        layers: some layers, all of the same module.
        args, kwargs: of the module's call.
        dense: arguments of the same call in the dense model, if its inputs are wanted too.

    Yields:
        (layer, inputs, the dense model's inputs or None): (…, in) as they are passed, or (tokens, in) of the tokens
        routed to a layer's expert. The dense model's are of the same tokens: routed as in this call, not as there.
    """
    if layers[0].expert is None:
        yield from ((layer, args[0], None if dense is None else dense[0][0]) for layer in layers)
        return
    requested = {(layer.expert, layer.name.rpartition(".")[2]): layer for layer in layers}
    experts = layers[0].module
    hidden, chosen = _routed(experts, args, kwargs)
    paired = None if dense is None else _expert_inputs(experts, _routed(experts, *dense)[0], chosen)
    for number, inputs in _expert_inputs(experts, hidden, chosen):
        others = next(paired)[1] if paired is not None else {}
        for name, X in inputs.items():
            if (number, name) in requested:
                yield requested[number, name], X, others.get(name)


def _routed(experts: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The hidden states (tokens, hidden) and the experts chosen for each (tokens, k) that a module is called with.

    The names of these parameters differ between architectures, their order does not.
    """
    hidden, chosen, *_ = inspect.signature(experts.forward).bind(*args, **kwargs).arguments.values()
    return hidden, chosen


def _expert_inputs(experts: Any, hidden: Tensor, chosen: Tensor) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """For each expert, its number and the inputs of its two products, (its tokens, in), by parameter name.

    The input of the second product crosses no module boundary, and which kernel multiplies differs between machines;
    so the first product is computed here once more, expert by expert.
    """
    first, second = weight_names(experts)
    for number, weight in enumerate(experts.get_parameter(first)):
        X = hidden[(chosen == number).any(dim=-1)]
        product = X @ (weight if experts.is_transposed else weight.t())
        if experts.has_bias:
            product = product + experts.get_parameter(f"{first}_bias")[number]
        yield number, {first: X, second: experts._apply_gate(product) if experts.has_gate else experts.act_fn(product)}


class ExpertTokens:
    """Counts of the calibration tokens that each expert's matrices received, over all blocks so far.

    Attributes:
        tokens: by name of the module of experts, the count of each expert.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()  # by layer
        self.tokens: dict[str, list[int]] = {}

    def count(self, layer: Layer, tokens: int) -> None:
        """Add ``tokens`` that were routed to the expert of ``layer``."""
        self._counts[layer.name] += tokens

    def report(self, layers: Iterable[tuple[Layer, Statistic]], *, paired: bool = False) -> None:
        """Note which of a block's experts received few tokens, and account for the tokens of all.

        The statistic of an expert that received no token is given each unit vector once, so that all its inputs have
        equal weight: Wanda's scores are then |W| and a Hessian is a multiple of I, which makes a method prune by
        magnitude or nearly so.

        Args:
            layers: with their statistics.
            paired: whether the statistics were shown the dense model's inputs too.
        """
        found: dict[str, list[int]] = {}
        for layer, statistic in layers:
            tokens, inputs = self._counts.pop(layer.name, 0), layer.shape[1]
            if tokens == 0:
                unit = torch.eye(inputs, dtype=layer.parameter.dtype, device=layer.parameter.device)
                show(statistic, unit, unit if paired else None)
                what = "an expert's matrix saw no calibration token: its inputs are taken to count alike"
                note(what, layer=layer.name)
            elif tokens < inputs:
                what = "an expert's matrix saw fewer calibration tokens than it has inputs"
                note(what, layer=layer.name, tokens=tokens, inputs=inputs)
            experts, _, name = layer.name.rsplit(".", 2)
            if name == first_of_experts(layer.module):
                found.setdefault(experts, []).append(tokens)
        self.tokens |= found
        if self.tokens:
            account(expert_tokens=self.tokens)
