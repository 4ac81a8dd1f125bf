"""The budget, and how it is met to the weight."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from prunebench.errors import AllocationError
from prunebench.pruning import Pattern, Unstructured, note
from prunebench.pruning.layers import all_layers


def sizes_of(model: nn.Module) -> dict[str, int]:
    """Layer name → weights, of every layer to be pruned."""
    return {layer.name: layer.shape[0] * layer.shape[1] for layer in all_layers(model)}


def budget_of(sizes: Mapping[str, int], pattern: Unstructured) -> int:
    """Zeros asked for on the whole: ratio · prunable weights, rounded half up."""
    return pattern.zeros((1, sum(sizes.values())))


def check_names(names: Mapping[str, object], sizes: Mapping[str, int]) -> None:
    """Refuse names of layers that the model does not have.

    Raises:
        AllocationError: names the first of them.
    """
    if unknown := [name for name in names if name not in sizes]:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise AllocationError(
            f"the allocation names a layer {unknown[0]!r}{more} that the model does not have: its {len(sizes)} layers "
            f"are called like {next(iter(sizes))!r}"
        )


def spread(ratios_by_layer: Mapping[str, float], sizes: Mapping[str, int], pattern: Unstructured) -> dict[str, Pattern]:
    """Ratios that differ as ``wanted`` do, all moved by one constant so that they meet the budget to the weight.

    A ratio that would leave [0, 1) stops there, noted, and the others make up for it.

    Args:
        ratios_by_layer: layer name → ratio, up to that constant.
        sizes: layer name → weights.
        pattern: asked for on the whole.

    Returns:
        Layer name → pattern with the exact count.
    """
    ratios, numel = (
        np.array(list(ratios_by_layer.values())),
        np.array([sizes[name] for name in ratios_by_layer], dtype=float),
    )
    highest, budget = 1 - 1 / numel, budget_of(sizes, pattern)
    low, high = -ratios.max(), 1 - ratios.min()  # from no zeros at all to nothing but zeros
    for _ in range(100):
        middle = (low + high) / 2
        enough = numel @ (ratios + middle).clip(0, highest) >= budget
        low, high = (low, middle) if enough else (middle, high)
    moved = (ratios + high).clip(0, highest)
    for name in np.array(list(ratios_by_layer))[np.abs(moved - ratios - high) * numel > 1] if budget else ():
        note("an allocation's ratio would have left [0, 1)", layer=str(name))
    return apportion(dict(zip(ratios_by_layer, (moved * numel).tolist(), strict=True)), sizes, budget)


def apportion(shares: Mapping[str, float], sizes: Mapping[str, int], budget: int) -> dict[str, Pattern]:
    """Whole numbers of zeros by largest remainder: shares are floored, and those that lost most get one more.

    What a full layer cannot take, the others share.

    Args:
        shares: layer name → zeros, with a fraction; they add up to the budget but for rounding.
        sizes: layer name → weights. A layer keeps at least one.
        budget: what the counts add up to.

    Returns:
        Layer name → pattern with the exact count.

    Raises:
        AllocationError: the budget leaves a layer without weights.
    """
    counts = {name: min(int(share), sizes[name] - 1) for name, share in shares.items()}
    missing = budget - sum(counts.values())
    order = sorted(shares, key=lambda name: counts[name] - shares[name])
    while missing > 0 and (roomy := [name for name in order if counts[name] < sizes[name] - 1]):
        each = max(missing // len(roomy), 1)
        for name in roomy[:missing]:
            more = min(each, sizes[name] - 1 - counts[name])
            counts[name] += more
            missing -= more
    if missing:
        raise AllocationError(f"{budget} zeros leave one of {len(sizes)} layers without any weight: ask for fewer")
    return {name: Unstructured(count / sizes[name]) for name, count in counts.items()}
