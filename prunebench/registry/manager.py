"""The plugin manager of one cell: its method and the installed wrappers."""

from collections.abc import Mapping
from typing import Any

import pluggy

from prunebench import hookspecs
from prunebench.errors import MethodError
from prunebench.pruning.callbacks import note
from prunebench.registry.entry_points import WRAPPERS, load_plugin, sources
from prunebench.registry.method_class import MethodClass, check_class


def plugin_manager(method: MethodClass, options: Mapping[str, Any]) -> pluggy.PluginManager:
    """A fresh manager that holds one method and every installed wrapper.

    A wrapper that cannot be loaded is noted and left out: no suite names it, so it stops none.

    Raises:
        MethodError: the options are refused, or there is not exactly one implementation of ``prune``.
    """
    return manager_around(method.make(options), method.name)


def manager_around(instance: Any, name: str) -> pluggy.PluginManager:
    """The same around an instance of a method's class.

    Args:
        instance: the method.
        name: what it is registered as.

    Raises:
        MethodError: there is not exactly one implementation of ``prune``.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(instance, name)
    for wrapper, found in sources(WRAPPERS).items():
        try:
            manager.register(load_wrapper(wrapper), f"{wrapper} ({found[0]})")
        except MethodError as error:
            note(f"the wrapper {wrapper!r} was left out: {error}")
    implementations = [impl for impl in manager.hook.prune.get_hookimpls() if not (impl.wrapper or impl.hookwrapper)]
    if len(implementations) != 1:
        raise MethodError(f"{len(implementations)} implementations of prune are registered: exactly one must be")
    return manager


def load_wrapper(name: str) -> Any:
    """An instance of an installed wrapper.

    Raises:
        MethodError: two packages have it, it failed to import or to be made, or is no ``hookimpl(wrapper=True)``.
    """
    cls = load_plugin("wrapper", name)
    check_class(name, cls, kind="wrapper")
    try:
        return cls()
    except Exception as error:  # whatever a foreign class does
        raise MethodError(
            f"the wrapper {name!r} cannot be made: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def wrappers_of(manager: pluggy.PluginManager, method: MethodClass) -> list[str]:
    """What surrounds the method, as "name (distribution version)"."""
    return [name for name, _ in manager.list_name_plugin() if name != method.name]
