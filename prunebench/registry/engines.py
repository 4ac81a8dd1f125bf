"""Engines as plugins: found by name, imported in this process, made with their options."""

from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path

from prunebench.errors import EngineError, MethodError, suggest
from prunebench.registry.entry_points import ENGINES, resolve_source, sources
from prunebench.registry.options import PluginClass


def load_engine(name: str, files: Iterable[Path] = ()) -> PluginClass:
    """An engine: a dataclass with options for fields and a function ``start(work)``. It is imported in this process.

    Raises:
        EngineError: nobody has it, two packages have it, its import failed, or it is no such class.
    """
    known = sources(ENGINES, files)
    if name not in known:
        raise EngineError(f"unknown engine {name!r}: {suggest(name, known)}")
    try:
        source = resolve_source("engine", name, known)
        cls = source.load()
    except MethodError as error:
        raise EngineError(str(error)) from None
    if not isinstance(cls, type) or not is_dataclass(cls) or not callable(getattr(cls, "start", None)):
        raise EngineError(f"the engine {name!r} is {cls!r}: it must be a dataclass with start(work)")
    return PluginClass(name, cls, source.distribution, source.version, source.file, "engine", EngineError)
