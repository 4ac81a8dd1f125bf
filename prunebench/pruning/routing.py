"""What the experts of a mixture see: the tokens that a router sends to each."""

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from prunebench.pruning.callbacks import account, note
from prunebench.pruning.experts import _names

if TYPE_CHECKING:
    from prunebench.pruning.layers import Layer
    from prunebench.pruning.statistics import Statistic


def inputs_of(
    layers: Sequence["Layer"], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple["Layer", Tensor]]:
    """What some matrices of one module multiply when the module is called.

    Args:
        layers: all of one module.
        args, kwargs: of its call.

    Yields:
        (layer, inputs): (…, in) as they stand, or (tokens, in) of those that are routed to a layer's expert.
    """
    if layers[0].expert is None:
        yield from ((layer, args[0]) for layer in layers)
        return
    wanted = {(layer.expert, layer.name.rpartition(".")[2]): layer for layer in layers}
    for number, inputs in _routed_inputs(layers[0].module, args, kwargs):
        yield from ((wanted[number, kind], X) for kind, X in inputs.items() if (number, kind) in wanted)


def _routed_inputs(
    experts: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """For each expert, its number and the inputs of its two products, (its tokens, in), by parameter name.

    The input of the second product crosses no module boundary, and which kernel multiplies differs between machines;
    so the first product is worked out here once more, expert by expert.
    """
    # Hidden states (tokens, hidden), the experts chosen for each (tokens, k), their weights: by other names elsewhere.
    hidden, chosen, *_ = inspect.signature(experts.forward).bind(*args, **kwargs).arguments.values()
    first, second = _names(experts)
    for number, weight in enumerate(experts.get_parameter(first)):
        X = hidden[(chosen == number).any(dim=-1)]
        product = X @ (weight if experts.is_transposed else weight.t())
        if experts.has_bias:
            product = product + experts.get_parameter(f"{first}_bias")[number]
        yield number, {first: X, second: experts._apply_gate(product) if experts.has_gate else experts.act_fn(product)}


class Routing:
    """How many calibration tokens each expert's matrices saw, over all blocks so far."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self.tokens: dict[str, list[int]] = {}  # by module of experts, of each expert

    def count(self, layer: "Layer", tokens: int) -> None:
        """``tokens`` more were routed to the expert that ``layer`` belongs to."""
        self._seen[layer.name] += tokens

    def tell(self, layers: Iterable[tuple["Layer", "Statistic"]]) -> None:
        """Note which of a block's experts saw little, and account for the tokens of all.

        An expert that no token reached is shown each unit vector once, so that its inputs count alike: Wanda's scores
        are then |W| and a Hessian is a multiple of I, of which a method makes pruning by magnitude or nearly so.
        """
        for layer, statistic in layers:
            tokens, inputs = self._seen[layer.name], layer.shape[1]
            if tokens == 0:
                statistic.add(torch.eye(inputs, dtype=layer.parameter.dtype, device=layer.parameter.device))
                what = "an expert's matrix saw no calibration token: its inputs are taken to count alike"
                note(what, layer=layer.name)
            elif tokens < inputs:
                what = "an expert's matrix saw fewer calibration tokens than it has inputs"
                note(what, layer=layer.name, tokens=tokens, inputs=inputs)
            experts, _, kind = layer.name.rsplit(".", 2)
            if kind == _names(layer.module)[0]:
                self.tokens.setdefault(experts, []).append(tokens)
        if self.tokens:
            account(expert_tokens=self.tokens)
