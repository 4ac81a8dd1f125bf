"""The contract of pruning methods: its rules, and the checks of each rule after a method has run.

``rules`` holds the rules with their advice, ``checks`` compares a model before and after pruning, ``live`` what else a
method may leave behind in its process, ``leaks`` what it keeps in itself. Names are resolved when they are first used,
so that the rules bring no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunebench.contract.checks import Snapshot, Watch, watched
    from prunebench.contract.rules import RULES, Rule, Violation

__all__ = ["RULES", "Rule", "Snapshot", "Violation", "Watch", "watched"]

_MODULES = ("rules", "checks")


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        if hasattr(content := import_module(f"{__name__}.{module}"), name):
            return getattr(content, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
