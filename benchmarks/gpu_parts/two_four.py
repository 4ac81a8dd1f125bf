"""(d) torch's semi-structured sparse tensors: right, and how fast beside dense."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gpu_parts.common import Context, median_seconds
from gpu_parts.report import Report, Row
from prunebench.pruning import NM, Target

TOKENS = (1, 16, 256, 4096)
LARGEST_ERROR = 1e-2  # relative, of bf16 products


def run(context: Context, report: Report) -> None:
    """Products with a 2:4 matrix for several numbers of tokens."""
    if context.device != "cuda":
        report.add(Row("to_sparse_semi_structured", note="needs CUDA: not run"))
        return
    rows, columns = context.size.matrix
    W = torch.randn(rows, columns, device="cuda")
    W = W.masked_fill(~Target.of(NM(2, 4), (rows, columns)).mask(W.abs()), 0).to(torch.bfloat16)
    packed = torch.sparse.to_sparse_semi_structured(W)
    for tokens in TOKENS:
        compare(report, W, packed, tokens)


def compare(report: Report, W: Tensor, packed: Tensor, tokens: int) -> None:
    """One product, dense and packed."""
    x = torch.randn(tokens, W.shape[1], device="cuda", dtype=W.dtype)
    exact = x.double() @ W.double().t()
    try:
        error = float((F.linear(x, packed).double() - exact).norm() / exact.norm())
    except (RuntimeError, NotImplementedError) as failure:
        report.add(Row(f"{tokens} tokens", note=f"not offered: {str(failure).splitlines()[0][:80]}"))
        return
    report.add(Row(f"{tokens} tokens: relative error", error, "", f"≤ {LARGEST_ERROR}", correct=error <= LARGEST_ERROR))
    dense = median_seconds(lambda: F.linear(x, W), "cuda")
    sparse = median_seconds(lambda: F.linear(x, packed), "cuda")
    note = f"dense {1e6 * dense:.0f} µs, packed {1e6 * sparse:.0f} µs"
    report.measured(f"{tokens} tokens: speed over dense", dense / sparse, "×", note=note)
