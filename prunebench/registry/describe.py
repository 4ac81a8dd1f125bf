"""Installed plugins and their options, as plain JSON."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from prunebench.errors import UsageError
from prunebench.registry.engines import load_engine
from prunebench.registry.entry_points import (
    KINDS,
    Source,
    installed,
    load_evaluation,
    load_method,
    load_plugin,
    resolve_source,
    sources,
)
from prunebench.registry.manager import load_wrapper
from prunebench.registry.reading import checked


class OptionSummary(BaseModel):
    """One option of a method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    default: Any
    docs: str


class MethodSummary(BaseModel):
    """What a method's class says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str
    changes: Literal["prunable", "all", "nothing"]
    patterns: tuple[str, ...]
    mask: Literal["held", "moves"] | None
    after: bool
    options: tuple[OptionSummary, ...]


def describe(name: str, files: Iterable[Path] = ()) -> dict[str, Any]:
    """A method and its options, as plain JSON, read by the reader of ``files``.

    Raises:
        MethodError: see ``load_method``.
    """
    source = resolve_source("method", name, installed(files))
    if reader := source.reader(files):
        found = reader.read("description", name=name, files=[str(file) for file in files])
        summary = checked(MethodSummary, found, f"the method {name!r}")
    else:
        summary = summary_of(name, files)
    origin = {"name": name, "distribution": source.distribution, "version": source.version}
    return {**origin, **summary.model_dump(exclude={"patterns"}), "patterns": list(summary.patterns)}


def summary_of(name: str, files: Iterable[Path] = ()) -> MethodSummary:
    """What a method says of itself; it is imported here.

    Raises:
        MethodError: see ``load_method``.
    """
    method = load_method(name, files)
    docs, types = method.option_docs, method.option_types
    options = [
        {"name": option, "type": types[option], "default": default, "docs": docs.get(option, "")}
        for option, default in method.options.items()
    ]
    said = {name: getattr(method, name) for name in ("summary", "changes", "patterns", "mask", "after")}
    return MethodSummary.model_validate({**said, "options": options})


def describe_all(files: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Every method as ``describe`` tells of it; one that cannot be loaded with its error in place of its options."""
    described = []
    for name, found in installed(files).items():
        entry = {"name": name, "distribution": found[0].distribution, "version": found[0].version, "summary": ""}
        try:
            described.append(describe(name, files) | {"error": None})
        except UsageError as error:
            described.append(entry | {"error": str(error)})
    return described


def describe_plugins(files: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Every plugin of every kind, with the error of one that cannot be loaded, as plain JSON."""
    described = []
    for kind, group in KINDS.items():
        for name, found in sources(group, files).items():
            failure = _failure(kind, name, found, files)
            for source in found:
                origin = {"distribution": source.distribution, "version": source.version}
                described.append({"kind": kind, "name": name, **origin, "error": failure})
    return described


def _failure(kind: str, name: str, found: list[Source], files: Iterable[Path]) -> str | None:
    """Why a plugin cannot be loaded; None if it can."""
    try:
        if len(found) == 1 and (reader := found[0].reader(files)):
            reader.read("loads", kind=kind, name=name, files=[str(file) for file in files])
        else:
            try_loading(kind, name, files)
    except UsageError as error:
        return str(error)
    return None


def try_loading(kind: str, name: str, files: Iterable[Path] = ()) -> None:
    """Import a plugin here.

    Raises:
        UsageError: it cannot be.
    """
    load: dict[str, Callable[..., Any]] = {"method": load_method, "wrapper": load_wrapper}
    load |= {"evaluation": load_evaluation, "engine": load_engine}
    load[kind](name, files) if kind in load else load_plugin(kind, name, files)
