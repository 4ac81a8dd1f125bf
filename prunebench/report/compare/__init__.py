"""Comparison of two results folders, as a regression gate: the comparison, its verdicts, and its output formats."""

from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.verdict import Comparison, Tolerances, Verdict

__all__ = ["Comparison", "Tolerances", "Verdict", "compare_records"]
