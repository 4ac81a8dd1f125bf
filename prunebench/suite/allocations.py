"""Allocations as a suite asks for them and as a cell holds them."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict

from prunebench.allocations import Allocation, allocate, make_allocation
from prunebench.allocations.from_file import read_ratios
from prunebench.errors import AllocationError
from prunebench.models.loading import load_skeleton
from prunebench.models.source import ModelSource
from prunebench.pruning import Pattern, UnknownMatrixError
from prunebench.registry.entry_points import Source, allocation_source, load_allocation
from prunebench.registry.reading import PluginFiles, checked, reader_of
from prunebench.suite.entries import UNIFORM, AllocationEntry
from prunebench.suite.fields import Sparing


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


Rules = dict[str, tuple[CellAllocation | None, str]]
"""By label, an allocation as a cell holds it (None is uniform), and what it needs."""


class AllocationDescription(BaseModel):
    """What planning has to know of an allocation: all of its options, and what it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: dict[str, Any]
    needs: Literal["nothing", "shapes", "weights", "data"]


def describe_allocation(
    name: str, options: Mapping[str, Any], files: Iterable[Path] = ()
) -> tuple[Source, AllocationDescription]:
    """Where an allocation is from and what it says of itself, read by the reader of ``files``.

    Raises:
        AllocationError: there is none of that name, or it refuses an option.
    """
    source = allocation_source(name, files)
    if reader := source.reader(files):
        found = reader.read("allocation", name=name, options=dict(options), files=[str(file) for file in files])
        return source, checked(AllocationDescription, found, f"the allocation {name!r}")
    rule: Allocation = load_allocation(name, files).make(options)
    return source, AllocationDescription(options=dataclasses.asdict(cast(Any, rule)), needs=rule.needs)


def resolve_allocations(entries: Iterable[AllocationEntry], files: Iterable[Path] = ()) -> Rules:
    """Make what is asked for, and the uniform one, which baselines have.

    Args:
        entries: as a suite names them.
        files: plugin files, whose allocations stand beside the installed ones.

    Raises:
        AllocationError: there is none of that name, it refuses an option, or its file cannot be read.
    """
    rules: Rules = {}
    files = files if isinstance(files, PluginFiles) else PluginFiles(files)
    for entry in (UNIFORM, *entries):
        if entry.title not in rules:
            ratios = {"layers": read_ratios(Path(entry.path))} if entry.path else {}
            source, found = describe_allocation(entry.name, {**entry.options, **ratios}, files)
            own = {"plugin_file": str(source.file), "version": source.version} if source.file else {}
            cell = CellAllocation(name=entry.name, options=found.options, code=source.code, **own)
            rules[entry.title] = (None if found.needs == "nothing" else cell, found.needs)
    return rules


def try_allocations(
    rules: Rules,
    model: str,
    source: ModelSource,
    trials: Iterable[tuple[str, Pattern]],
    files: Iterable[Path] = (),
) -> None:
    """Share out zeros where that takes no weights, so that a file that does not fit shows before anything runs.

    Args:
        rules: from ``resolve_allocations``.
        model: what tables call the model.
        source: where it is.
        trials: (label, sparsity) pairs.
        files: name who reads plugins.

    Raises:
        AllocationError: an allocation does not fit the model or the sparsity.
    """
    ordered = sorted(trials, key=lambda trial: (trial[0], str(trial[1])))
    for label, sparsity in ordered:
        rule, needs = rules[label]
        if rule is None or needs != "shapes":
            continue
        own = PluginFiles([Path(rule.plugin_file)] if rule.plugin_file else [], reader_of(files))
        origin = allocation_source(rule.name, own)
        try:
            if reader := origin.reader(own):
                where = {"model": source.source, "trust_remote_code": source.trust_remote_code}
                reader.read("share out", rule=rule.model_dump(mode="json"), sparsity=str(sparsity), **where)
            else:
                allocate(rule.make(), cast(Any, load_skeleton(source)), None, sparsity)
        except (AllocationError, UnknownMatrixError) as error:
            raise AllocationError(f"allocation {label!r} of {model} at {sparsity}: {error}") from None
