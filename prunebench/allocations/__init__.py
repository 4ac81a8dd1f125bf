"""How zeros are shared out among the layers: what makes "90 % of the model" not "90 % of each matrix".

An allocation is asked once for each cell, before its method, which never learns which it was. All that are not uniform
meet one budget, ratio × prunable weights, to the weight.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ValidationError
from torch import nn

from prunebench.allocations.budget import budget_of, check_names, sizes_of
from prunebench.allocations.from_file import FromFile
from prunebench.allocations.global_magnitude import GlobalMagnitude
from prunebench.allocations.owl import OWL
from prunebench.allocations.uniform import Uniform
from prunebench.errors import AllocationError, suggest
from prunebench.pruning import NM, Allocated, CalibrationData, Pattern, Sparsity
from prunebench.registry.entry_points import KINDS, load_plugin, sources
from prunebench.registry.options import as_type

ALLOCATIONS: dict[str, type[Any]] = {
    "uniform": Uniform,
    "owl": OWL,
    "file": FromFile,
    "magnitude-global": GlobalMagnitude,
}


class Allocation(Protocol):
    """A frozen dataclass: its fields are its options, and it shares out zeros when it is called.

    ``needs`` says what it looks at: the layers' shapes alone, so that it can be tried before anything runs; their
    weights; or the calibration data too, so that seeds differ.
    """

    needs: ClassVar[Literal["shapes", "weights", "data"]]

    def __call__(self, model: nn.Module, data: Any, pattern: Any) -> Mapping[str, Pattern]:
        """A pattern for each layer by name; a layer that is not named gets ``pattern``. The model is left as it is."""


def make_allocation(name: str, options: Mapping[str, Any]) -> Allocation:
    """An allocation with the given options.

    Raises:
        AllocationError: there is none of that name, or it refuses an option.
    """
    cls = ALLOCATIONS.get(name) or _plugged(name)
    known, hints = {field.name for field in dataclasses.fields(cls)}, typing.get_type_hints(cls)
    checked = {}
    for option, value in options.items():
        if option not in known:
            raise AllocationError(f"the allocation {name!r} has no option {option!r}: {suggest(option, known)}")
        try:
            checked[option] = as_type(hints[option], value)
        except ValidationError as error:
            wrong = error.errors()[0]["msg"].lower()
            raise AllocationError(f"the option {option!r} of the allocation {name!r} is {value!r}: {wrong}") from None
    try:
        allocation: Allocation = cls(**checked)
    except (TypeError, ValueError) as error:
        raise AllocationError(f"the allocation {name!r} refuses its options: {error}") from None
    return allocation


def _plugged(name: str) -> type[Any]:
    """An allocation that a plugin brings."""
    found = sources(KINDS["allocation"])
    if name not in found:
        raise AllocationError(f"unknown allocation {name!r}: {suggest(name, {*ALLOCATIONS, *found})}")
    cls = load_plugin("allocation", name)
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls) or not hasattr(cls, "needs"):
        raise AllocationError(f"the allocation {name!r} is {cls!r}: it must be a dataclass that says what it needs")
    return cls


def allocate(allocation: Allocation, model: nn.Module, data: CalibrationData | None, pattern: Pattern) -> Sparsity:
    """What a method is asked for: ``pattern`` on the whole, and each layer's own.

    Args:
        allocation: shares out the zeros.
        model: the dense model; shapes on the meta device do where the allocation needs no more.
        data: calibration windows; None where the allocation needs none.
        pattern: asked for on the whole.

    Raises:
        AllocationError: it is asked to share out n:m, names a layer that is not there, or misses the budget.
    """
    if isinstance(allocation, Uniform):
        return pattern
    if isinstance(pattern, NM):
        raise AllocationError(f"{pattern} fixes the zeros of every group, so that there are none to share out")
    patterns, sizes = dict(allocation(model, data, pattern)), sizes_of(model)
    check_names(patterns, sizes)
    zeros = sum(patterns.get(name, pattern).zeros((1, size)) for name, size in sizes.items())
    if zeros != (budget := budget_of(sizes, pattern)):
        raise AllocationError(
            f"the allocation gives {zeros} zeros where {pattern} of all prunable weights are {budget}"
        )
    return Allocated(pattern, patterns)
