"""One threshold on |W| for the whole model."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from prunebench.allocations.budget import budget_of, sizes_of, spread
from prunebench.pruning import CalibrationData, Pattern, Unstructured
from prunebench.pruning.layers import resident_layers


@dataclass(frozen=True)
class GlobalMagnitude:
    """Each matrix gets as many zeros as it holds of the model's smallest |W|.

    Weights equal to the threshold are shared out in proportion. A matrix that would lose all keeps one weight.
    """

    revision: ClassVar[int] = 1
    needs: ClassVar[Literal["weights"]] = "weights"

    def __call__(self, model: nn.Module, data: CalibrationData, pattern: Unstructured) -> Mapping[str, Pattern]:
        """Find the threshold, and count each layer's weights below it."""
        sizes = sizes_of(model)
        budget = budget_of(sizes, pattern)
        if budget == 0:
            return dict.fromkeys(sizes, pattern)
        threshold = kth_smallest(_Magnitudes(model), budget)
        below, equal = {}, {}
        for name, magnitudes in zip(sizes, _Magnitudes(model), strict=True):
            below[name] = int((magnitudes < threshold).sum())
            equal[name] = int((magnitudes == threshold).sum())
        share = (budget - sum(below.values())) / sum(equal.values())
        return spread(
            {name: (below[name] + share * equal[name]) / size for name, size in sizes.items()}, sizes, pattern
        )


@dataclass(frozen=True)
class _Magnitudes:
    """|W| of every matrix in fp32, one at a time, as often as asked."""

    model: nn.Module

    def __iter__(self) -> Iterator[Tensor]:
        return (layer.weight.float().abs() for layers in resident_layers(self.model) for layer in layers)


def kth_smallest(matrices: Iterable[Tensor], k: int) -> float:
    """The k-th smallest |W| of several matrices together, k from 1, in memory for one; they are gone through twice.

    The bits of a float without its sign, read as an integer, have the order of its magnitude: so the upper half of the
    threshold's bits is threshold_bits by one histogram, the lower by another.
    """
    threshold_bits = 0
    for shift in (16, 0):
        histogram = torch.zeros(1 << 16, dtype=torch.int64)
        for W in matrices:
            bits = W.float().abs().flatten().view(torch.int32)
            chosen = bits if shift else bits[bits >> 16 == threshold_bits]
            histogram += torch.bincount(chosen >> shift & 0xFFFF, minlength=1 << 16).cpu()
        cumulative = histogram.cumsum(0)
        bucket = int(torch.searchsorted(cumulative, k))
        k -= int(cumulative[bucket] - histogram[bucket])
        threshold_bits = threshold_bits << 16 | bucket
    return torch.tensor(threshold_bits, dtype=torch.int32).view(torch.float32).item()
