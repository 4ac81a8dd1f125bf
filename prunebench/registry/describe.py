"""Installed plugins and their options, as plain JSON."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunebench.errors import MethodError
from prunebench.registry.entry_points import KINDS, installed, load_evaluation, load_method, load_plugin, sources
from prunebench.registry.manager import load_wrapper


def describe(name: str, files: Iterable[Path] = ()) -> dict[str, Any]:
    """A method and its options, as plain JSON.

    Raises:
        MethodError: see ``load_method``.
    """
    method = load_method(name, files)
    docs, types = method.option_docs, method.option_types
    return {
        "name": method.name,
        "distribution": method.distribution,
        "version": method.version,
        "summary": method.summary,
        "changes": method.changes,
        "patterns": list(method.patterns),
        "mask": method.mask,
        "after": method.after,
        "options": [
            {"name": option, "type": types[option], "default": default, "docs": docs.get(option, "")}
            for option, default in method.options.items()
        ],
    }


def describe_all(files: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Every method as ``describe`` tells of it; one that cannot be loaded with its error in place of its options."""
    described = []
    files = list(files)
    for name, found in installed(files).items():
        entry = {"name": name, "distribution": found[0].distribution, "version": found[0].version, "summary": ""}
        try:
            described.append(describe(name, files) | {"error": None})
        except MethodError as error:
            described.append(entry | {"error": str(error)})
    return described


def describe_plugins(files: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """Every plugin of every kind, with the error of one that cannot be loaded, as plain JSON."""
    files = list(files)
    load = {"method": load_method, "wrapper": load_wrapper, "evaluation": load_evaluation}
    described = []
    for kind, group in KINDS.items():
        for name, found in sources(group, files).items():
            failure = None
            try:
                load[kind](name, files) if kind in load else load_plugin(kind, name, files)
            except MethodError as error:
                failure = str(error)
            for source in found:
                origin = {"distribution": source.distribution, "version": source.version}
                described.append({"kind": kind, "name": name, **origin, "error": failure})
    return described
