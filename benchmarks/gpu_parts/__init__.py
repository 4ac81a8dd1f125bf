"""The parts of ``benchmarks/gpu_check.py``, one module each, and what they share.

report       rows, the JSON file and the table
common       sizes, timing, random models and data
kernels      (a) every Triton kernel and the exact selection against plain torch
elsa         (b) step time and memory of ELSA and ELSA-L beside AdamW, bandwidth of the fused pass
layerwise    (c) SparseGPT, ALPS, ADMM and Wanda on a matrix and on a whole model; selection beside torch's
two_four     (d) torch's semi-structured sparse tensors
small_model  (e) a small model trained on a text, pruned and retrained with growing budgets
"""
