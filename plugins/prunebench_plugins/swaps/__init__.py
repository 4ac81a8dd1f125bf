"""Stages that refine masks: SparseSwaps (Zimmer et al., arXiv 2512.10922) and DSnoT (Zhang et al., arXiv 2310.08915).

method     the options and the hook
exact      the best exchange by the Gram matrix, SparseSwaps
dsnot      the rule of Dynamic Sparse no Training
"""

from prunebench_plugins.swaps.dsnot import dsnot
from prunebench_plugins.swaps.exact import exact
from prunebench_plugins.swaps.method import Swaps

__all__ = ["Swaps", "dsnot", "exact"]
