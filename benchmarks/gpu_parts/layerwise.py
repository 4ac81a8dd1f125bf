"""(c) Layer-wise methods on one matrix and on a whole random model, and exact selection beside torch's.

The whole model is timed beside its floor, two bare forwards of the calibration windows: one in which the layers' inputs
are seen, one for what the pruned blocks make of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from prunebench_plugins.admm import ADMM, System, admm
from prunebench_plugins.alps import ALPS, Problem, alps, conjugate_gradients
from prunebench_plugins.sparsegpt import SparseGPT, sparsegpt
from prunebench_plugins.sparsegpt.algorithm import prune_tile
from prunebench_plugins.wanda import Wanda, wanda_scores
from torch import Tensor, nn

from gpu_parts.common import (
    Context,
    free_memory,
    median_seconds,
    parameters_of,
    peak_gib,
    random_data,
    random_llama,
    seconds,
)
from gpu_parts.report import Report, Row
from prunebench.pruning import CalibrationData, Hessian, Layer, Sparsity, Target, Unstructured, calibrated

S = TypeVar("S", bound=Hessian)

SPARSITY = Unstructured(0.9)
TOKENS_PER_CALL = 4096  # as the calibration walk batches windows


def prune_without_kernel(model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
    """SparseGPT as the method runs it, by its plain path on every device."""
    for layer, H, target in calibrated(model, data, sparsity, Hessian):
        pruned = sparsegpt(layer.weight.float(), H.factor(0.01), target, dead=H.dead, prune=prune_tile)
        layer.weight.copy_(pruned)


Prune = Callable[[nn.Module, CalibrationData, Sparsity], None]
METHODS: dict[str, tuple[Prune, float | None]] = {  # with the goal over two bare forwards
    "wanda": (Wanda().prune, 1.0),
    "sparsegpt": (SparseGPT().prune, 1.5),
    "sparsegpt, plain": (prune_without_kernel, None),
    "admm": (ADMM().prune, 1.5),
    "alps": (ALPS().prune, 1.5),
}


def run(context: Context, report: Report) -> None:
    """Selection, one matrix, the whole model."""
    compare_selection(context, report)
    compare_solvers(context, report)
    for name in METHODS:
        prune_model(context, report, name)


def compare_selection(context: Context, report: Report) -> None:
    """The mask of the highest tenth beside torch's ways to find its threshold."""
    rows, columns = context.size.matrix
    scores = torch.randn(rows, columns, device=context.device).square()
    target = Target.of(SPARSITY, (rows, columns))
    kept = scores.numel() - target.zeros
    flat = scores.flatten()
    ways: dict[str, Callable[[], Tensor]] = {
        "Target.mask": lambda: target.mask(scores),
        "torch.kthvalue": lambda: scores > flat.kthvalue(target.zeros).values,
        "torch.topk": lambda: scores >= flat.topk(kept, sorted=False).values.min(),
        "torch.sort": lambda: scores >= flat.sort(descending=True).values[kept - 1],
    }
    for name, way in ways.items():
        report.measured(f"selection of {rows} × {columns}: {name}", 1000 * median_seconds(way, context.device), "ms")
    mask = ways["Target.mask"]()
    lowest = flat.topk(kept, sorted=False).values.min()
    right = int(mask.sum()) == kept and bool(scores[mask].min() == lowest) and bool(scores[~mask].max() <= lowest)
    report.add(Row("selection: exact count, torch.topk's threshold", correct=right))


@dataclass
class Matrix:
    """A weight matrix with inputs like activations: a spectrum that falls off, columns of different size.

    Args:
        shape: (out, in).
        device: where it lies.
    """

    shape: tuple[int, int]
    device: str

    def __post_init__(self) -> None:
        rows, columns = self.shape
        g = torch.Generator().manual_seed(0)
        latent = torch.randn(2 * columns, columns // 3, generator=g) * torch.arange(1, columns // 3 + 1) ** -0.5
        X = latent @ torch.randn(columns // 3, columns, generator=g)
        X = (X + 0.3 * torch.randn(X.shape, generator=g)) * torch.rand(columns, generator=g)
        self.X: Tensor = X.to(self.device)
        self.W: Tensor = (torch.randn(rows, columns, generator=g) / columns**0.5).to(self.device)
        self.target = Target.of(SPARSITY, self.shape)

    def statistic(self, kind: type[S]) -> S:
        """A statistic that has seen the inputs."""
        linear = nn.Linear(self.shape[1], 1, bias=False, device=self.device)
        statistic = kind(Layer("layer", linear, nn.Parameter(linear.weight), transposed=False))
        statistic.add(self.X)
        return statistic

    def error(self, pruned: Tensor) -> float:
        """‖X(W − Ŵ)ᵀ‖² / ‖XWᵀ‖²."""
        return float((self.X @ (self.W - pruned).t()).norm() ** 2 / (self.X @ self.W.t()).norm() ** 2)


def compare_solvers(context: Context, report: Report) -> None:
    """Each method on one matrix, from its inputs: statistic and factorisation are counted."""
    matrix = Matrix(context.size.matrix, context.device)
    rows, columns = matrix.shape
    errors = {}
    for name, solver in solvers(context, matrix).items():
        pruned = solver()  # compiles
        took = seconds(solver, context.device)
        errors[name] = matrix.error(pruned)
        zeros = int((pruned == 0).sum())
        note = f"layer error {errors[name]:.4f}"
        report.add(
            Row(f"{rows} × {columns}: {name}", 1000 * took, "ms", correct=zeros == matrix.target.zeros, note=note)
        )
    if "sparsegpt, kernel" in errors:
        ratio = errors["sparsegpt, kernel"] / errors["sparsegpt, plain"]
        right = abs(ratio - 1) < 0.01
        report.add(Row("SparseGPT: layer error, kernel over plain", ratio, "×", "1 ± 0.01", correct=right))


def solvers(context: Context, matrix: Matrix) -> dict[str, Callable[[], Tensor]]:
    """By name, functions that prune the matrix."""
    W, target = matrix.W, matrix.target

    def by_sparsegpt(prune: Callable[..., Tensor]) -> Tensor:
        H = matrix.statistic(Hessian)
        return sparsegpt(W, H.factor(0.01), target, dead=H.dead, prune=prune)

    def by_alps() -> Tensor:
        problem = matrix.statistic(Problem)
        scaled = W * problem.scale
        D, support = alps(scaled, problem, target, rho=0.1, iterations=300)
        return conjugate_gradients(scaled, D, support, problem.A, steps=10) / problem.scale

    def by_wanda() -> Tensor:
        return W.masked_fill(~target.mask(wanda_scores(W, matrix.X.norm(dim=0)), per="row"), 0)

    ways = {
        "wanda": by_wanda,
        "sparsegpt, plain": lambda: by_sparsegpt(prune_tile),
        "admm": lambda: admm(W, matrix.statistic(System), target, iterations=20, ramp=0),
        "alps": by_alps,
    }
    if context.has_kernels:
        from prunebench_plugins.sparsegpt import kernels

        ways["sparsegpt, kernel"] = lambda: by_sparsegpt(kernels.prune_tile)
    return ways


def prune_model(context: Context, report: Report, name: str) -> None:
    """One method on a random model beside two bare forwards of the same model."""
    prune, goal = METHODS[name]
    free_memory(context.device)
    blocks = context.size.alps_blocks if name == "alps" else context.size.model.blocks
    model, data = random_llama(context, context.size.model, blocks).to(context.dtype), random_data(context)
    bare_forward(model, data, context.device)  # loads what a first forward loads
    floor = 2 * seconds(lambda: bare_forward(model, data, context.device), context.device)
    took = seconds(lambda: prune(model, data, SPARSITY), context.device)
    size = f"{parameters_of(model) / 1e6:.4g} M, {blocks} blocks"
    tokens = f"{context.size.windows} × {context.size.seqlen} tokens"
    peak = peak_gib(context.device)
    note = f"{size}, {tokens}, floor {floor:.3g} s" + ("" if peak is None else f", peak {peak:.1f} GiB")
    report.measured(f"model: {name}", took, "s", note=note)
    report.measured(f"model: {name} over two bare forwards", took / floor, "×", at_most=goal)


@torch.no_grad()
def bare_forward(model: nn.Module, data: CalibrationData, device: str) -> None:
    """The decoder over all calibration windows, without the head."""
    decoder = model.model
    assert isinstance(decoder, nn.Module)
    for batch in torch.split(data.windows, max(1, TOKENS_PER_CALL // data.seqlen)):
        decoder(input_ids=batch.to(device), use_cache=False)
