"""Allocations as a suite asks for them and as a cell holds them."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, cast

from prunebench.allocations import Allocation, allocate, make_allocation
from prunebench.allocations.from_file import read_ratios
from prunebench.errors import AllocationError
from prunebench.models.loading import load_skeleton
from prunebench.models.source import ModelSource
from prunebench.pruning import Pattern, UnknownMatrixError
from prunebench.registry.entry_points import code_of, load_allocation
from prunebench.suite.schema import UNIFORM, AllocationEntry, Sparing


class CellAllocation(Sparing):
    """An allocation by name with all its options; of a file these are its ratios, so that no path is needed.

    ``plugin_file`` is the Python file that it is read from, if it is not installed, and ``version`` that file's digest.
    ``code`` is the digest of its code or its stated revision.
    """

    name: str
    options: dict[str, Any]
    plugin_file: str | None = None
    version: str | None = None
    code: str | None = None
    spared: ClassVar[tuple[str, ...]] = ("plugin_file", "version")

    def make(self) -> Allocation:
        """The allocation itself.

        Raises:
            AllocationError: it is not there, or refuses its options.
        """
        return make_allocation(self.name, self.options, [Path(self.plugin_file)] if self.plugin_file else [])


Rules = dict[str, tuple[CellAllocation | None, Allocation]]
"""By label, an allocation as a cell holds it (None is uniform), and the allocation itself."""


def resolve_allocations(entries: Iterable[AllocationEntry], files: Iterable[Path] = ()) -> Rules:
    """Make what is asked for, and the uniform one, which baselines have.

    Args:
        entries: as a suite names them.
        files: plugin files, whose allocations stand beside the installed ones.

    Raises:
        AllocationError: there is none of that name, it refuses an option, or its file cannot be read.
    """
    rules: Rules = {}
    files = list(files)
    for entry in (UNIFORM, *entries):
        if entry.title not in rules:
            ratios = {"layers": read_ratios(Path(entry.path))} if entry.path else {}
            plugin = load_allocation(entry.name, files)
            rule: Allocation = plugin.make({**entry.options, **ratios})
            own = {"plugin_file": str(plugin.file), "version": plugin.version} if plugin.file else {}
            options, code = dataclasses.asdict(cast(Any, rule)), code_of("allocation", entry.name, files)
            cell = CellAllocation(name=entry.name, options=options, code=code, **own)
            rules[entry.title] = (None if rule.needs == "nothing" else cell, rule)
    return rules


def try_allocations(rules: Rules, model: str, source: ModelSource, trials: Iterable[tuple[str, Pattern]]) -> None:
    """Share out zeros where that takes no weights, so that a file that does not fit shows before anything runs.

    Args:
        rules: from ``resolve_allocations``.
        model: what tables call the model.
        source: where it is.
        trials: (label, sparsity) pairs.

    Raises:
        AllocationError: an allocation does not fit the model or the sparsity.
    """
    ordered = sorted(trials, key=lambda trial: (trial[0], str(trial[1])))
    to_try = [(label, sparsity) for label, sparsity in ordered if rules[label][1].needs == "shapes"]
    skeleton = load_skeleton(source) if to_try else None
    for label, sparsity in to_try:
        try:
            allocate(rules[label][1], cast(Any, skeleton), None, sparsity)
        except (AllocationError, UnknownMatrixError) as error:
            raise AllocationError(f"allocation {label!r} of {model} at {sparsity}: {error}") from None
