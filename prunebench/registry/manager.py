"""The plugin manager of one cell: its method and the installed wrappers."""

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pluggy

from prunebench import hookspecs
from prunebench.errors import MethodError
from prunebench.pruning.callbacks import divert_traces, note
from prunebench.registry.entry_points import WRAPPERS, load_plugin, sources
from prunebench.registry.method_class import MethodClass, check_class
from prunebench.registry.options import call_named
from prunebench.tracebacks import describe_error

TRACE_ROWS = 256  # of a wrapper; what it traces after them is dropped


def plugin_manager(method: MethodClass, options: Mapping[str, Any], files: Iterable[Path] = ()) -> pluggy.PluginManager:
    """A fresh manager that holds one method and every wrapper, installed or of a plugin file.

    A wrapper that cannot be loaded is noted and left out: no suite names it, so it stops none.

    Raises:
        MethodError: the options are refused, or there is not exactly one implementation of ``prune``.
    """
    return manager_around(method.make(options), method.name, files)


def manager_around(instance: Any, name: str, files: Iterable[Path] = ()) -> pluggy.PluginManager:
    """The same around an instance of a method's class.

    Args:
        instance: the method.
        name: what it is registered as.
        files: plugin files, whose wrappers stand beside the installed ones.

    Raises:
        MethodError: there is not exactly one implementation of ``prune``.
    """
    files = list(files)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(instance, name)
    for wrapper, found in sources(WRAPPERS, files).items():
        try:
            manager.register(Surrounding(wrapper, load_wrapper(wrapper, files)), f"{wrapper} ({found[0]})")
        except MethodError as error:
            note(f"the wrapper {wrapper!r} was left out: {error}")
    implementations = [impl for impl in manager.hook.prune.get_hookimpls() if not (impl.wrapper or impl.hookwrapper)]
    if len(implementations) != 1:
        raise MethodError(f"{len(implementations)} implementations of prune are registered: exactly one must be")
    return manager


class Surrounding:
    """A wrapper whose traces are its own: the method's curve holds none of them.

    Args:
        name: the wrapper's.
        wrapper: an instance of its class.
    """

    def __init__(self, name: str, wrapper: Any) -> None:
        self._name, self._wrapper = name, wrapper
        self.rows: list[dict[str, float]] = []

    def _traced(self, step: int, values: dict[str, float]) -> None:
        if len(self.rows) < TRACE_ROWS:
            self.rows.append({"step": int(step), **{str(name): float(value) for name, value in values.items()}})

    @hookspecs.hookimpl(wrapper=True)
    def prune(self, model: Any, data: Any, sparsity: Any) -> Generator[None, Any, Any]:
        """Run the wrapper's part before and after the method, with its traces kept apart."""
        parts = call_named(self._wrapper.prune, model=model, data=data, sparsity=sparsity)
        with divert_traces(self._traced):
            next(parts)
        try:
            result = yield
        except BaseException as error:
            with divert_traces(self._traced):
                return _ended(partial(parts.throw, error), self._name)
        with divert_traces(self._traced):
            return _ended(partial(parts.send, result), self._name)


def _ended(advance: Callable[[], Any], name: str) -> Any:
    """What a wrapper's generator returns at its end."""
    try:
        advance()
    except StopIteration as end:
        return end.value
    raise MethodError(f"the wrapper {name!r} yields twice: it must yield once, where the method runs")


def wrapper_traces(manager: pluggy.PluginManager) -> dict[str, list[dict[str, float]]]:
    """What each wrapper traced, by "name (distribution version)"; those that traced nothing are left out."""
    return {
        name: plugin.rows
        for name, plugin in manager.list_name_plugin()
        if isinstance(plugin, Surrounding) and plugin.rows
    }


def load_wrapper(name: str, files: Iterable[Path] = ()) -> Any:
    """An instance of a wrapper.

    Raises:
        MethodError: two packages have it, it failed to import or to be made, or is no ``hookimpl(wrapper=True)``.
    """
    cls = load_plugin("wrapper", name, files)
    check_class(name, cls, kind="wrapper")
    try:
        return cls()
    except Exception as error:  # whatever a foreign class does
        raise MethodError(
            f"the wrapper {name!r} cannot be made: {type(error).__name__}: {describe_error(error)}"
        ) from error


def wrappers_of(manager: pluggy.PluginManager, method: MethodClass) -> list[str]:
    """What surrounds the method, as "name (distribution version)"."""
    return [name for name, _ in manager.list_name_plugin() if name != method.name]
