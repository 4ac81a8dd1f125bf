"""(a) Every Triton kernel and the exact selection against plain torch on the same device."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

import torch
from prunebench_plugins.elsa.adam import BETA1, adam
from prunebench_plugins.elsa.codes import E4M3, e4m3_values
from prunebench_plugins.elsa.states import EightBitMoments, FullMoments, OneState
from prunebench_plugins.sparsegpt.algorithm import prune_tile
from torch import Tensor, nn

from gpu_parts.common import Context
from gpu_parts.report import Report, Row
from prunebench.pruning import NM, Hessian, Layer, Pattern, Target, Unstructured

Per = Literal["matrix", "row"]
STEPS = 3
KEPT_ABOVE = 0.7
C_DTYPES: tuple[torch.dtype | None, ...] = (None, torch.float32, torch.bfloat16, E4M3)
LARGEST_DIFFERENCE = 1e-6  # of a weight, relative to the largest, or of a sum: the order of one rounding
SELECTIONS: tuple[tuple[Pattern, Per], ...] = (
    (Unstructured(0.9), "matrix"),
    (Unstructured(0.5), "row"),
    (NM(2, 4), "matrix"),
)
LEAST_AGREEMENT = 0.999  # of masks that are chosen from scores that differ by rounding
LARGEST_TILE_ERROR = 1e-3


def run(context: Context, report: Report) -> None:
    """All comparisons; without triton only those that need no kernel."""
    check_e4m3(context, report)
    check_selection(context, report)
    check_hessian(context, report)
    if not context.has_kernels:
        report.add(Row("Triton kernels", note="triton is not installed: not checked"))
        return
    check_step(context, report)
    check_decoding(context, report)
    check_tiles(context, report)


def check_e4m3(context: Context, report: Report) -> None:
    """Every finite e4m3 code is read and written back; z − u is stored to the nearest code, on CUDA as on a CPU."""
    codes = finite_codes(context.device)
    values = e4m3_values(torch.device(context.device))[codes.long()]
    same = torch.equal(values.to(E4M3).view(torch.uint8), codes)
    report.add(Row("e4m3: all 254 finite codes read and written back", correct=same))
    y = torch.randn(301, 77, generator=generator(0))
    state, on_cpu = (stored_as_e4m3(y.to(device)) for device in (context.device, "cpu"))
    assert state.scales is not None
    kept = y.abs() > KEPT_ABOVE
    dual_scale, kept_scale = state.scales.cpu()
    c, scale = torch.where(kept, y, -y), torch.where(kept, kept_scale, dual_scale)
    error = (state.read().cpu() - c).abs() / torch.maximum(c.abs(), scale * 2**-6)  # 2^-6: the smallest normal number
    right = float(error.max()) <= 2**-4 * (1 + 1e-6)  # half of the last of three bits
    right &= all(torch.equal(raw(a.cpu()), raw(b)) for a, b in zip(state.tensors(), on_cpu.tensors(), strict=True))
    report.add(Row("e4m3: z − u stored, relative error", float(error.max()), "", "≤ 1/16", correct=right))


def finite_codes(device: str) -> Tensor:
    """All e4m3 codes but those of NaN, uint8 (254,)."""
    return torch.tensor([code for code in range(256) if code & 127 != 127], dtype=torch.uint8, device=device)


def stored_as_e4m3(y: Tensor) -> OneState:
    """z = y where |y| is large, u = y elsewhere."""
    state = OneState(y, E4M3)
    state.update(y, y.abs() > KEPT_ABOVE)
    return state


@dataclass
class Difference:
    """What differs between two paths: shares of equal codes, and weights."""

    codes: int = 0
    equal_codes: int = 0
    weights: float = 0.0

    def see(self, kernel: list[Tensor], plain: list[Tensor], W: Tensor, W_plain: Tensor) -> None:
        """Compare moments bit by bit, and weights."""
        for one, other in zip(kernel, plain, strict=True):
            self.codes += one.numel()
            self.equal_codes += int((raw(one) == raw(other)).sum())
        self.weights = max(self.weights, float((W - W_plain).abs().max() / W_plain.abs().max()))


def check_step(context: Context, report: Report) -> None:
    """ELSA's fused pass: every storage of z − u and of the moments, odd shapes, with and without clipping."""
    for kind in (FullMoments, EightBitMoments):
        difference = Difference()
        for shape, dtype in product(context.size.shapes, C_DTYPES):
            compare_step(context.device, shape, dtype, kind, difference)
        name = "ELSA's fused pass, " + ("fp32 moments" if kind is FullMoments else "8-bit moments")
        share = difference.equal_codes / difference.codes
        report.add(Row(f"{name}: moments equal", 100 * share, "%", "100 %", correct=share == 1))
        right = difference.weights <= LARGEST_DIFFERENCE
        report.add(
            Row(f"{name}: largest difference of W", difference.weights, "", f"≤ {LARGEST_DIFFERENCE:g}", correct=right)
        )


def compare_step(
    device: str,
    shape: tuple[int, int],
    dtype: torch.dtype | None,
    kind: type[FullMoments | EightBitMoments],
    difference: Difference,
) -> None:
    """A few steps from the same states; W is made equal after each, so that differences do not add up."""
    from prunebench_plugins.elsa.kernels import fused_adam

    start = torch.randn(shape, generator=generator(1)).to(device)
    ours, plain = start.clone(), start.clone()
    our_moments, moments = (kind(start) for _ in range(2))
    split = None
    if dtype is not None:
        split = OneState(start, dtype)
        split.update(1.1 * start, start.abs() > KEPT_ABOVE)
    for t in range(1, STEPS + 1):
        noise = generator(t)
        g = (10 ** (3 * torch.randn(shape, generator=noise)) * torch.randn(shape, generator=noise)).to(device)
        clip = torch.tensor(1.0 if t == 1 else 1 / (3 * t), device=device)
        fused_adam(ours, g, our_moments, 0.01, t, clip, lmda=0.3, split=split)
        g.mul_(clip)
        if split is not None:
            g.add_(split.residual(plain).mul_(0.3))
        adam(plain, g, moments, 0.01, t)
        difference.see(our_moments.tensors(), moments.tensors(), ours, plain)
        plain.copy_(ours)


def check_decoding(context: Context, report: Report) -> None:
    """The kernel reads every finite e4m3 code: with W = g = 0 and λ = 1 the first moment is −(1 − β₁)·c."""
    from prunebench_plugins.elsa.kernels import fused_adam

    codes = finite_codes(context.device)
    W = torch.zeros(1, len(codes), device=context.device)
    split, moments = OneState(W, E4M3), FullMoments(W)
    split.c = codes.view(E4M3).view(1, -1)
    expected = (0 - split.read()) * (1 - BETA1)
    clip = torch.ones((), device=context.device)
    fused_adam(W, torch.zeros_like(W), moments, 0.0, 1, clip, lmda=1.0, split=split)
    report.add(Row("ELSA's fused pass: all finite e4m3 codes decoded", correct=torch.equal(moments.m, expected)))


def check_tiles(context: Context, report: Report) -> None:
    """SparseGPT's tile: the same counts, masks and weights up to rounding, unstructured and n:m."""
    from prunebench_plugins.sparsegpt import kernels

    agreement, worst, counts = 1.0, 0.0, True
    for columns, rows in context.size.tiles:
        start, U, dead = tile_problem(columns, rows, context.device)
        for pattern in (Unstructured(0.7), NM(2, 4), NM(1, 4)):
            target = Target.of(pattern, (rows, columns))
            plain, kernel = start.clone(), start.clone()
            errors = prune_tile(plain, U, target, dead)
            kernel_errors = kernels.prune_tile(kernel, U, target, dead)
            counts &= int((kernel == 0).sum()) == target.zeros
            agreement = min(agreement, float(((plain != 0) == (kernel != 0)).float().mean()))
            for one, other in ((kernel, plain), (kernel_errors, errors)):
                worst = max(worst, float((one - other).norm() / other.norm()))
    report.add(Row("SparseGPT's tile: exact counts", correct=counts))
    right = agreement >= LEAST_AGREEMENT
    report.add(
        Row("SparseGPT's tile: masks equal", 100 * agreement, "%", f"≥ {100 * LEAST_AGREEMENT:g} %", correct=right)
    )
    right = worst <= LARGEST_TILE_ERROR
    report.add(
        Row("SparseGPT's tile: ‖kernel − plain‖ / ‖plain‖", worst, "", f"≤ {LARGEST_TILE_ERROR:g}", correct=right)
    )


def tile_problem(columns: int, rows: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """A tile's weights (columns, rows), the factor of its inverse Hessian, and one dead input."""
    g = generator(columns)
    X = (torch.randn(4 * columns, columns, generator=g) @ torch.randn(columns, columns, generator=g)).double()
    H = X.T @ X / len(X) + torch.eye(columns, dtype=torch.float64)
    U = torch.linalg.cholesky(torch.linalg.inv(H), upper=True).float()
    dead = torch.zeros(columns, dtype=torch.bool)
    dead[5] = True
    return torch.randn(columns, rows, generator=g).to(device), U.to(device), dead.to(device)


def check_hessian(context: Context, report: Report) -> None:
    """XᵀX / tokens of inputs in half precision, added in two batches, against double precision."""
    worst = 0.0
    for dtype in (torch.bfloat16, torch.float16):
        X = torch.randn(1003, 301, generator=generator(3)).to(dtype).to(context.device)
        H = Hessian(Layer("layer", nn.Linear(301, 1), nn.Parameter(torch.empty(1, 301, device=context.device)), False))
        H.add(X[:400])
        H.add(X[400:])
        exact = X.double().t() @ X.double() / len(X)
        worst = max(worst, float((H.matrix - exact).norm() / exact.norm()))
    right = worst <= LARGEST_DIFFERENCE
    report.add(
        Row("Hessian of bf16 and fp16 inputs, relative error", worst, "", f"≤ {LARGEST_DIFFERENCE:g}", correct=right)
    )


def check_selection(context: Context, report: Report) -> None:
    """Masks on the device are those of a stable sort on the CPU: matrix, rows and n:m, ties included."""
    wrong, cases = [], 0
    for name, scores in score_cases(context):
        for pattern, per in SELECTIONS:
            if isinstance(pattern, NM) and scores.shape[1] % pattern.m:
                continue
            cases += 1
            if not same_mask(scores, pattern, per, context.device):
                wrong.append(f"{name} {pattern} per {per}")
    report.add(
        Row("selection: masks are those of a stable sort", cases, "cases", correct=not wrong, note=", ".join(wrong))
    )


def same_mask(scores: Tensor, pattern: Pattern, per: Per, device: str) -> bool:
    """Whether the device's mask is that of sorted rows, where equal scores stay in order."""
    rows, columns = scores.shape
    target = Target.of(pattern, (rows, columns))
    mask = target.mask(scores.to(device), per=per).cpu()
    totals = [target.zeros * row // rows for row in range(rows + 1)]
    if isinstance(pattern, NM):
        expected = sorted_mask(scores.reshape(-1, pattern.m), [pattern.m - pattern.n] * (scores.numel() // pattern.m))
    elif per == "row":
        expected = sorted_mask(scores, [after - before for before, after in pairwise(totals)])
    else:
        expected = sorted_mask(scores.reshape(1, -1), [target.zeros])
    return torch.equal(mask.flatten(), expected.flatten())


def sorted_mask(scores: Tensor, zeros: list[int]) -> Tensor:
    """Keep all but the ``zeros[r]`` lowest of row r."""
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < scores.shape[1] - torch.tensor(zeros)[:, None]


def score_cases(context: Context) -> Iterator[tuple[str, Tensor]]:
    """Scores with few and many ties, zeros of both signs, and signs."""
    for shape in context.size.shapes:
        normal = torch.randn(shape, generator=generator(2))
        yield f"squares {shape}", normal.square()
        yield f"signed {shape}", normal
        yield f"coarse {shape}", (4 * normal).round().abs()
        yield f"bf16 {shape}", normal.bfloat16().float().abs()
        yield f"zeros {shape}", torch.where(normal > 1, normal, normal.sign() * 0.0)


def generator(seed: int) -> torch.Generator:
    """A CPU generator: the same numbers on every device."""
    return torch.Generator().manual_seed(seed)


def raw(tensor: Tensor) -> Tensor:
    """The tensor's bits, where its dtype has no comparison everywhere."""
    return tensor.view(torch.uint8) if tensor.dtype == E4M3 else tensor
