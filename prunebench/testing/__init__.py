"""Tests for the author of a method: the conformance kit, and tiny models of each architecture.

``check`` runs a method on the tiny models and returns a verdict for each rule of the contract; ``MODELS`` and
``calibration`` serve tests of one's own. Names are resolved when they are first used, so that importing this package
brings no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunebench.testing.conformance import PATTERNS, Conformance, Verdict, check
    from prunebench.testing.models import MODELS, calibration

__all__ = ["MODELS", "PATTERNS", "Conformance", "Verdict", "calibration", "check"]

_MODULES = ("models", "conformance")


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        if hasattr(content := import_module(f"{__name__}.{module}"), name):
            return getattr(content, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
