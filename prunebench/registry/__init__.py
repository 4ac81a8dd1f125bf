"""Plugins: entry points and files, the classes they name, their options, and the manager of a cell.

``entry_points`` finds plugins of every kind, ``method_class`` checks what a method must be, ``options`` has the options
of all kinds, ``manager`` makes the plugin manager of one cell, and ``describe`` lists what is installed.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.registry.describe import describe_plugins
    from prunebench.registry.entry_points import load_allocation, load_evaluation, load_method, load_plugin
    from prunebench.registry.manager import plugin_manager
    from prunebench.registry.method_class import MethodClass
    from prunebench.registry.options import PluginClass

__all__ = [
    "MethodClass",
    "PluginClass",
    "describe_plugins",
    "load_allocation",
    "load_evaluation",
    "load_method",
    "load_plugin",
    "plugin_manager",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "describe": "describe_plugins",
        "entry_points": "load_allocation load_evaluation load_method load_plugin",
        "manager": "plugin_manager",
        "method_class": "MethodClass",
        "options": "PluginClass",
    },
)
