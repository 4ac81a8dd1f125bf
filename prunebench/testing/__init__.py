"""What a method's author tests with: the conformance kit, and tiny models of each architecture."""

from prunebench.testing.conformance import PATTERNS, Conformance, Verdict, check
from prunebench.testing.models import MODELS, calibration

__all__ = ["MODELS", "PATTERNS", "Conformance", "Verdict", "calibration", "check"]
