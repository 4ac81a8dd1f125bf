"""What a method is to the core: a dataclass with one hook, whose fields are its options."""

import dataclasses
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from prunebench import hookspecs
from prunebench.errors import MethodError, suggest
from prunebench.pruning.sparsity import NM, Pattern, Unstructured
from prunebench.registry.options import PluginClass

CHANGES = ("prunable", "all", "nothing")
PATTERNS = (Unstructured.kind, NM.kind)
MASKS = ("held", "moves")
CITATION = re.compile(r"\d{4}\.\d{4,5}|@\w+\{[^\s,]+,.*\}\s*", re.DOTALL)


@dataclass(frozen=True)
class MethodClass(PluginClass):
    """An installed method."""

    @property
    def changes(self) -> str:
        """What it may change: the prunable matrices, all parameters, or nothing."""
        return str(getattr(self.cls, "changes", "prunable"))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The kinds of sparsity pattern that it is for; by default all."""
        return tuple(getattr(self.cls, "patterns", PATTERNS))

    @property
    def mask(self) -> Literal["held", "moves"] | None:
        """What it does with the masks of a model that another method has pruned; None if it cannot follow one."""
        return getattr(self.cls, "mask", None)

    @property
    def after(self) -> bool:
        """Whether it makes sense only after another method."""
        return bool(getattr(self.cls, "after", False))

    @property
    def control(self) -> bool:
        """Whether it may also follow a baseline: the same training without pruning."""
        return bool(getattr(self.cls, "control", False))

    @property
    def brought(self) -> bool:
        """Whether it prunes nothing itself, and brings weights that were pruned elsewhere: they are counted."""
        return bool(getattr(self.cls, "brought", False))

    @property
    def cites(self) -> tuple[str, ...]:
        """What to cite for it: arXiv numbers, or BibTeX entries."""
        return tuple(getattr(self.cls, "cites", ()))

    def is_for(self, pattern: Pattern) -> bool:
        """Whether a pattern is of a kind that it is for."""
        return pattern.kind in self.patterns

    @property
    def takes_data(self) -> bool:
        """Whether its hook names ``data``; without it there is nothing random, and one seed serves for all."""
        return "data" in inspect.signature(_prune_of(self.cls)).parameters


class MethodDescription(BaseModel):
    """What planning has to know of a method.

    Args:
        name, distribution, version, file: where it comes from; see ``PluginClass``.
        changes, takes_data, patterns, mask, after, control, brought, cites: see ``MethodClass``.
        options: all of its options, defaults included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    distribution: str
    version: str
    file: Path | None = None
    changes: Literal["prunable", "all", "nothing"]
    takes_data: bool
    patterns: tuple[str, ...]
    mask: Literal["held", "moves"] | None = None
    after: bool = False
    control: bool = False
    brought: bool = False
    cites: tuple[str, ...] = ()
    options: dict[str, Any]

    def is_for(self, pattern: Pattern) -> bool:
        """Whether a pattern is of a kind that it is for."""
        return pattern.kind in self.patterns


def _prune_of(cls: type) -> Any:
    return getattr(cls, "prune", None)


def check_class(name: str, cls: object, *, kind: Literal["method", "wrapper"] = "method") -> None:
    """Refuse what pluggy would let through.

    Args:
        name: what a message calls it.
        cls: what an entry point names.
        kind: a wrapper need not be a dataclass, but its hook must be marked as one.

    Raises:
        MethodError: it cannot be a method (or a wrapper).
    """
    if not isinstance(cls, type) or (kind == "method" and not dataclasses.is_dataclass(cls)):
        raise MethodError(f"the {kind} {name!r} is {cls!r}: an entry point must name a dataclass")
    prune = _prune_of(cls)
    if prune is None or not hasattr(prune, f"{hookspecs.PROJECT}_impl"):
        raise MethodError(f"the {kind} {name!r} has no function 'prune' marked with @prunebench.hookimpl")
    if prune.prunebench_impl["wrapper"] != (kind == "wrapper"):
        mark = "@hookimpl(wrapper=True)" if kind == "wrapper" else "@hookimpl"
        raise MethodError(f"the {kind} {name!r} must mark its function 'prune' with {mark}")
    known = list(inspect.signature(hookspecs.prune).parameters)
    for parameter in list(inspect.signature(prune).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise MethodError(f"the {kind} {name!r}: prune takes *{parameter.name}, which is never filled; remove it")
        if parameter.default is not parameter.empty:
            raise MethodError(
                f"the {kind} {name!r}: the argument {parameter.name!r} of prune has a default, so a misspelt name "
                "would run unnoticed; remove the default (hyperparameters are fields of the class)"
            )
        if parameter.name not in known:
            raise MethodError(
                f"the {kind} {name!r}: prune has the unknown argument {parameter.name!r}: "
                f"{suggest(parameter.name, known)}"
            )
    if (changes := getattr(cls, "changes", "prunable")) not in CHANGES:
        raise MethodError(f"the method {name!r} says changes = {changes!r}: valid: {', '.join(CHANGES)}")
    patterns = getattr(cls, "patterns", PATTERNS)
    if not isinstance(patterns, tuple) or not patterns or not set(patterns) <= set(PATTERNS):
        raise MethodError(
            f"the method {name!r} says patterns = {patterns!r}: give a tuple of kinds; valid: {', '.join(PATTERNS)}"
        )
    mask, after = getattr(cls, "mask", None), getattr(cls, "after", False)
    if mask is not None and mask not in MASKS:
        raise MethodError(f"the method {name!r} says mask = {mask!r}: valid: {', '.join(MASKS)}")
    for flag in ("after", "control", "brought"):
        if not isinstance(getattr(cls, flag, False), bool):
            raise MethodError(f"the method {name!r} says {flag} = {getattr(cls, flag)!r}: give True or False")
    cites = getattr(cls, "cites", ())
    if not isinstance(cites, tuple) or not all(isinstance(one, str) and CITATION.fullmatch(one) for one in cites):
        raise MethodError(
            f"the method {name!r} says cites = {cites!r}: give a tuple of arXiv numbers, as '2306.11695', or of BibTeX "
            "entries, which begin with @"
        )
    if after and mask is None:
        raise MethodError(
            f"the method {name!r} says after = True and not what it does with the mask: add mask = 'held'"
        )
