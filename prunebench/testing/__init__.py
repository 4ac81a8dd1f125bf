"""Tests for the author of a method: the conformance kit, and tiny models of each architecture.

``check`` runs a method on the tiny models and returns a verdict for each rule of the contract; ``MODELS`` and
``calibration`` serve tests of one's own. Names are resolved when they are first used, so that importing this package
brings no torch.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.testing.conformance import PATTERNS, check
    from prunebench.testing.models import MODELS, calibration
    from prunebench.testing.verdicts import Conformance, Verdict

__all__ = ["MODELS", "PATTERNS", "Conformance", "Verdict", "calibration", "check"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "conformance": "PATTERNS check",
        "models": "MODELS calibration",
        "verdicts": "Conformance Verdict",
    },
)
