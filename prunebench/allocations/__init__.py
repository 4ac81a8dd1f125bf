"""How zeros are shared out among the layers: what makes "90 % of the model" not "90 % of each matrix".

An allocation is asked once for each cell, before its method, which never learns which it was. All that are not uniform
meet one budget, ratio × prunable weights, to the weight.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from torch import nn

from prunebench.allocations.budget import budget_of, check_names, sizes_of
from prunebench.errors import AllocationError
from prunebench.pruning import NM, Allocated, CalibrationData, Pattern, Sparsity, Unstructured
from prunebench.registry.entry_points import load_allocation
from prunebench.registry.options import Deferred, call_named

__all__ = ["Allocation", "allocate", "check_budget", "make_allocation"]


class Allocation(Protocol):
    """A frozen dataclass: its fields are its options, and it shares out zeros when it is called.

    ``needs`` says what it looks at: nothing, where every layer gets what is asked for on the whole; the layers' shapes
    alone, so that it can be tried before anything runs; their weights; or the calibration data too, so that seeds
    differ.

    It may name a fourth argument, ``method``: a function (model, data, sparsity) that prunes a model in place by the
    cell's method. What it prunes must be put back, or be a copy.
    """

    needs: ClassVar[Literal["nothing", "shapes", "weights", "data"]]

    def __call__(self, model: nn.Module, data: Any, pattern: Any) -> Mapping[str, Pattern]:
        """A pattern for each layer by name; a layer that is not named gets ``pattern``. The model is left as it is."""


def make_allocation(name: str, options: Mapping[str, Any], files: Iterable[Path] = ()) -> Allocation:
    """An allocation with the given options.

    Args:
        name: its name.
        options: what is not named has its default.
        files: plugin files, whose allocations stand beside the installed ones.

    Raises:
        AllocationError: there is none of that name, or it refuses an option.
    """
    allocation: Allocation = load_allocation(name, files).make(options)
    return allocation


def _pruner(method: Any) -> Callable[[nn.Module, Any, Any], None]:
    """A method as a function (model, data, sparsity)."""
    instance = method.make() if isinstance(method, Deferred) else method

    def prune(model: nn.Module, data: Any, sparsity: Any) -> None:
        call_named(instance.prune, model=model, data=data, sparsity=sparsity)

    return prune


def allocate(
    allocation: Allocation, model: nn.Module, data: CalibrationData | None, pattern: Pattern, method: Any = None
) -> Sparsity:
    """What a method is asked for: ``pattern`` on the whole, and each layer's own.

    Args:
        allocation: shares out the zeros.
        model: the dense model; shapes on the meta device do where the allocation needs no more.
        data: calibration windows; None where the allocation needs none.
        pattern: asked for on the whole.
        method: the instance that will prune, or a ``Deferred`` one, for an allocation that names it.

    Raises:
        AllocationError: it is asked to share out n:m, names a layer that is not there, or misses the budget.
    """
    if allocation.needs == "nothing":
        return pattern
    if isinstance(pattern, NM):
        raise AllocationError(f"{pattern} fixes the zeros of every group, so that there are none to share out")
    patterns = dict(call_named(allocation, model, data, pattern, method=Deferred(lambda: _pruner(method))))
    check_budget(model, pattern, patterns)
    return Allocated(pattern, patterns)


def check_budget(model: nn.Module, pattern: Unstructured, patterns: Mapping[str, Pattern]) -> None:
    """Check that each layer's own patterns add up to the pattern on the whole.

    Args:
        model: any; its shapes do.
        pattern: asked for on the whole.
        patterns: by layer; one that is not named has ``pattern``.

    Raises:
        AllocationError: a layer is named that is not there, or the budget is missed.
    """
    sizes = sizes_of(model)
    check_names(patterns, sizes)
    zeros = sum(patterns.get(name, pattern).zeros((1, size)) for name, size in sizes.items())
    if zeros != (budget := budget_of(sizes, pattern)):
        raise AllocationError(
            f"the allocation gives {zeros} zeros where {pattern} of all prunable weights are {budget}"
        )
