"""SparseGPT: one-shot pruning with optimal brain surgeon updates (Frantar and Alistarh, arXiv 2301.00774).

method       the options and the hook
algorithm    algorithm 1 of the paper, in plain torch
kernels      a tile of it as one Triton kernel, for CUDA
"""

from prunebench_plugins.sparsegpt.algorithm import sparsegpt
from prunebench_plugins.sparsegpt.method import SparseGPT

__all__ = ["SparseGPT", "sparsegpt"]
