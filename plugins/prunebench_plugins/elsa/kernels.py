# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, misc"
"""One pass over memory on CUDA: clipping, proximal term, Adam on fp32 or 8-bit moments (needs triton).

The numbers are those of ``adam.adam`` and ``codes``: each product and sum is rounded by itself (no fused
multiply-add), divisions and roots are exact, ties between codes go the same way. (torch's square root on a CPU is not
exact: there the last bit of a weight may differ, never that of m or v.) e4m3 is decoded by hand, so the pass runs on
devices without fp8 units too. z and u change at updates only and are requantised there by plain torch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from prunebench_plugins.elsa.adam import BETA1, BETA2, EPS
from prunebench_plugins.elsa.codes import BLOCK, dynamic_tables
from prunebench_plugins.elsa.states import EightBitMoments, FullMoments, Moments, OneState, Split

ROWS = 4  # blocks of up to 256 entries a program


def knows(W: Tensor, moments: Moments, split: Split | None) -> bool:
    """Whether the pass can run on these states: contiguous fp32 weights; z and u, if any, in one state."""
    return (
        W.is_contiguous() and isinstance(moments, FullMoments | EightBitMoments) and isinstance(split, OneState | None)
    )


def fused_adam(
    W: Tensor,
    g: Tensor,
    moments: Moments,
    lr: float,
    t: int,
    clip: Tensor,
    *,
    lmda: float = 0.0,
    split: OneState | None = None,
) -> None:
    """``Matrix.step`` or, without a split, ``Variable.step``; W and the moments change in place, g is only read."""
    eight_bit = isinstance(moments, EightBitMoments)
    if isinstance(moments, EightBitMoments):
        m, v, m_absmax, v_absmax = moments.m, moments.v_codes, moments.m_absmax, moments.v_absmax
        m_values, m_middles, m_below = dynamic_tables(True, W.device)
        v_values, v_middles, v_below = dynamic_tables(False, W.device)
    else:
        assert isinstance(moments, FullMoments)
        m, v = moments.m, moments.v
        m_absmax = v_absmax = m_values = m_middles = m_below = v_values = v_middles = v_below = W  # not read
    c, bits, scales, fp8 = W, W, W, False
    if split is not None:
        c, bits = split.c, split.bits
        if split.scales is not None:
            c, scales, fp8 = c.view(torch.uint8), split.scales, True
    width = W.shape[-1] if eight_bit else W.numel()  # no block goes beyond a row
    blocks = W.numel() // width * triton.cdiv(width, BLOCK)
    _step[(triton.cdiv(blocks, ROWS),)](
        W, g.contiguous(), clip, m, v, m_absmax, v_absmax, c, bits, scales,
        m_values, m_middles, m_below, v_values, v_middles, v_below,
        blocks, width, float(lmda), lr / (1 - BETA1**t), (1 - BETA2**t) ** -0.5,
        BETA1, 1 - BETA1, BETA2, 1 - BETA2, EPS,
        SPLIT=split is not None, FP8=fp8, EIGHT_BIT=eight_bit, ROWS=ROWS, BLOCK=BLOCK,
        enable_fp_fusion=False,
    )  # fmt: skip


@triton.jit
def _step(
    W, G, Clip, M, V, M_absmax, V_absmax, C, Bits, Scales,
    M_values, M_middles, M_below, V_values, V_middles, V_below,
    blocks, width, lmda, rate, root, beta1, rest1, beta2, rest2, eps,
    SPLIT: tl.constexpr, FP8: tl.constexpr, EIGHT_BIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    block_exists = block < blocks
    of_row = tl.cdiv(width, BLOCK)  # blocks of a row
    column = (block % of_row)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    at = (block // of_row)[:, None] * width + column
    inside = block_exists[:, None] & (column < width)
    w = tl.load(W + at, inside, other=0.0)
    g = tl.load(G + at, inside, other=0.0) * tl.load(Clip)
    if SPLIT:
        if FP8:
            c = _e4m3(tl.load(C + at, inside, other=0))
            kept = (tl.load(Bits + (at >> 3), inside, other=0) >> (at & 7).to(tl.uint8)) & 1
            c = c * tl.where(kept != 0, tl.load(Scales + 1), tl.load(Scales))
        else:
            c = tl.load(C + at, inside, other=0.0).to(tl.float32)
        g = g + (w - c) * lmda
    if EIGHT_BIT:
        m_scale = tl.load(M_absmax + block, block_exists, other=0.0)
        v_scale = tl.load(V_absmax + block, block_exists, other=0.0)
        # int32, since the first versions of Triton 3 take an unsigned offset for a signed one.
        m = tl.load(M_values + tl.load(M + at, inside, other=0).to(tl.int32)) * m_scale[:, None]
        v = tl.load(V_values + tl.load(V + at, inside, other=0).to(tl.int32)) * v_scale[:, None]
    else:
        m = tl.load(M + at, inside, other=0.0)
        v = tl.load(V + at, inside, other=0.0)
    m = m * beta1 + g * rest1
    v = v * beta2 + g * g * rest2
    denominator = tl.sqrt_rn(v) * root + eps
    tl.store(W + at, w - tl.div_rn(m, denominator) * rate, inside)
    if EIGHT_BIT:
        m = tl.where(inside, m, 0.0)
        v = tl.where(inside, v, 0.0)
        m_scale = tl.max(tl.abs(m), axis=1)
        v_scale = tl.max(v, axis=1)
        tl.store(M_absmax + block, m_scale, block_exists)
        tl.store(V_absmax + block, v_scale, block_exists)
        tl.store(M + at, _nearest(m, m_scale, M_middles, M_below), inside)
        tl.store(V + at, _nearest(v, v_scale, V_middles, V_below), inside)
    else:
        tl.store(M + at, m, inside)
        tl.store(V + at, v, inside)


@triton.jit
def _e4m3(code):
    """The value of an e4m3 code: its seven bits are the top of an fp32 whose exponent is 120 too low."""
    size = ((code & 127).to(tl.int32) << 20).to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2^120
    return tl.where(code >= 128, -size, size)


@triton.jit
def _nearest(x, absmax, Middles, Below):
    """How many midpoints lie below x/absmax; see ``codes.dynamic_tables``."""
    unit = x * tl.div_rn(tl.full(absmax.shape, 1.0, tl.float32), tl.where(absmax < 1e-37, 1.0, absmax))[:, None]
    code = tl.load(Below + ((unit.to(tl.int32, bitcast=True) >> 16) & 0xFFFF)).to(tl.int32)
    return (code + (unit > tl.load(Middles + code)).to(tl.int32)).to(tl.uint8)
