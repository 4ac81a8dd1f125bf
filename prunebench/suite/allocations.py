"""Allocations as a suite asks for them and as a cell holds them."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from prunebench.allocations import Allocation, allocate, make_allocation
from prunebench.allocations.from_file import read_ratios
from prunebench.errors import AllocationError
from prunebench.models.loading import load_skeleton
from prunebench.models.source import ModelSource
from prunebench.pruning import UnknownMatrixError
from prunebench.pruning.sparsity import parse_pattern
from prunebench.suite.schema import UNIFORM, AllocationEntry, Strict


class CellAllocation(Strict):
    """An allocation by name with all its options; of a file these are its ratios, so that no path is needed."""

    name: str
    options: dict[str, Any]


Rules = dict[str, tuple[CellAllocation | None, Allocation]]
"""By label, an allocation as a cell holds it (None is uniform), and the allocation itself."""


def found_allocations(entries: Iterable[AllocationEntry]) -> Rules:
    """Make what is asked for, and the uniform one, which baselines have.

    Raises:
        AllocationError: there is none of that name, it refuses an option, or its file cannot be read.
    """
    found: Rules = {}
    for entry in (UNIFORM, *entries):
        if entry.shown not in found:
            ratios = {"layers": read_ratios(Path(entry.path))} if entry.path else {}
            rule = make_allocation(entry.name, {**entry.options, **ratios})
            cell = CellAllocation(name=entry.name, options=dataclasses.asdict(cast(Any, rule)))
            found[entry.shown] = (None if entry.name == UNIFORM.name else cell, rule)
    return found


def try_allocations(rules: Rules, model: str, source: ModelSource, trials: Iterable[tuple[str, str]]) -> None:
    """Share out zeros where that takes no weights, so that a file that does not fit shows before anything runs.

    Args:
        rules: from ``found_allocations``.
        model: what tables call the model.
        source: where it is.
        trials: (label, sparsity) pairs.

    Raises:
        AllocationError: an allocation does not fit the model or the sparsity.
    """
    wanted = [(label, text) for label, text in sorted(trials) if rules[label][0] and rules[label][1].needs == "shapes"]
    skeleton = load_skeleton(source) if wanted else None
    for label, sparsity in wanted:
        try:
            allocate(rules[label][1], cast(Any, skeleton), None, parse_pattern(sparsity))
        except (AllocationError, UnknownMatrixError) as error:
            raise AllocationError(f"allocation {label!r} of {model} at {sparsity}: {error}") from None
