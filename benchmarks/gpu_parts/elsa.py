"""(b) What a step of ELSA and ELSA-L costs beside AdamW on the same model, and the memory of their states.

Weights are fp32 masters under bf16 autocast on CUDA. An update of z and u comes every 32 steps: it is timed by itself
and a 32nd of it added to a step's time. Ratios are taken within a round, against AdamW in the same round.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from prunebench_plugins.elsa import Elsa, ElsaL
from prunebench_plugins.elsa.algorithm import elsa
from prunebench_plugins.elsa.method import nbytes
from prunebench_plugins.elsa.training import TaskGradient
from prunebench_plugins.elsa.variables import Matrix, Variable
from torch import Tensor, nn

from gpu_parts.common import Context, free_memory, median_seconds, parameters_of, peak_gib, random_llama, synchronize
from gpu_parts.report import Report, Row
from prunebench.pruning import Unstructured, prunable, trainable

INTERVAL = 32  # steps between two updates of z and u in a real run
UPDATE_EVERY, TIMED = 4, 8  # here: steps 0, 4 and 8 end with an update
LR = 1e-6
VARIANTS: dict[str, tuple[Elsa, float | None]] = {  # with the goal for bytes a weight
    "elsa": (Elsa(), 16.2),
    "elsa-l": (ElsaL(), 7.2),
    "elsa two-state": (Elsa(layout="two-state"), None),
    "elsa-l two-state": (ElsaL(layout="two-state"), None),
}


def run(context: Context, report: Report) -> None:
    """Time all variants, then the fused pass alone."""
    size = context.size
    model = random_llama(context, size.model)
    batch = f"{size.micro_batch * size.accumulation} × {size.seqlen} tokens a step"
    report.add(Row("model", parameters_of(model) / 1e6, "M", note=f"{batch}, in micro-batches of {size.micro_batch}"))
    rounds = [one_round(context, model) for _ in range(size.rounds)]
    report.measured("AdamW: step", 1000 * median(each["adamw"].step for each in rounds), "ms")
    report_peak(report, "AdamW", rounds[-1]["adamw"])
    for name, (_, goal) in VARIANTS.items():
        runs = [each[name] for each in rounds]
        ratio = median(run.amortised / each["adamw"].step for run, each in zip(runs, rounds, strict=True))
        report.measured(f"{name}: step", 1000 * median(run.step for run in runs), "ms")
        report.measured(f"{name}: update of z and u", 1000 * median(run.update for run in runs), "ms")
        report.measured(f"{name}: step and 1/{INTERVAL} update, over AdamW", ratio, "×", at_most=1.05)
        report.measured(f"{name}: bytes a pruned weight", runs[-1].bytes_a_weight, "bytes", at_most=goal)
        report_peak(report, name, runs[-1])
    del model
    free_memory(context.device)
    bandwidths(context, report)


class Run:
    """Times and memory of one variant; also the gradient function that takes the times.

    Args:
        gradient: adds the gradient of step t.
        device: where it runs.
    """

    def __init__(self, gradient: Callable[[int], Tensor], device: str) -> None:
        self._gradient, self._device = gradient, device
        self._starts: list[float] = []
        self.bytes_a_weight = 0.0
        self.peak: float | None = None

    def __call__(self, t: int) -> Tensor:
        """The gradient of step t; remembers when the step began."""
        synchronize(self._device)
        self._starts.append(time.perf_counter())
        return self._gradient(t)

    @property
    def _durations(self) -> list[float]:
        return [after - before for before, after in zip(self._starts, self._starts[1:], strict=False)]

    @property
    def step(self) -> float:
        """Median seconds of a step without an update; the first, which compiles, does not count."""
        return median(d for t, d in enumerate(self._durations) if t % UPDATE_EVERY)

    @property
    def update(self) -> float:
        """Seconds of an update: what a step with one takes longer."""
        return self._durations[UPDATE_EVERY] - self.step

    @property
    def amortised(self) -> float:
        """Seconds of a step with its share of an update."""
        return self.step + self.update / INTERVAL


def one_round(context: Context, model: nn.Module) -> dict[str, Run]:
    """Every variant once, on the same model, whose weights change little at this learning rate."""
    runs = {}
    for name, method in [("adamw", None), *((name, method) for name, (method, _) in VARIANTS.items())]:
        free_memory(context.device)
        with trainable(model, grad_checkpointing=False) as parameters:
            source = batches(context)
            run = Run(TaskGradient(model, lambda _, s=source: s, context.size.accumulation), context.device)  # type: ignore[misc]
            if method is None:
                train_adamw(parameters, run)
            else:
                train_elsa(model, parameters, run, method)
            run.peak = peak_gib(context.device)
        runs[name] = run
    return runs


def batches(context: Context) -> Iterator[Tensor]:
    """Endless random micro-batches."""
    size, generator = context.size, torch.Generator().manual_seed(0)
    while True:
        yield torch.randint(size.model.vocabulary, (size.micro_batch, size.seqlen), generator=generator)


def train_adamw(parameters: list[nn.Parameter], run: Run) -> None:
    """Plain training with clipping, as ELSA clips."""
    optimizer = torch.optim.AdamW(parameters, lr=LR, betas=(0.9, 0.95), fused=True)
    for t in range(TIMED + 1):
        run(t)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def train_elsa(model: nn.Module, parameters: list[nn.Parameter], run: Run, method: Elsa) -> None:
    """The method's own loop."""
    matrices = [
        Matrix(layer.parameter, method.moments(layer.weight), method.split(layer.weight), target)
        for layer, target in prunable(model, Unstructured(0.9))
    ]
    chosen = {id(matrix.x) for matrix in matrices}
    others = [Variable(x, method.moments(x.detach())) for x in parameters if id(x) not in chosen]
    held = sum(nbytes(matrix.tensors()) for matrix in matrices)
    run.bytes_a_weight = held / sum(matrix.W.numel() for matrix in matrices)
    elsa(matrices, others, run, steps=TIMED + 1, lr=LR, penalty=lambda _: 0.01, interval=UPDATE_EVERY)


def report_peak(report: Report, name: str, run: Run) -> None:
    """Peak device memory, where it can be known."""
    if run.peak is not None:
        report.measured(f"{name}: peak memory", run.peak, "GiB")


def bandwidths(context: Context, report: Report) -> None:
    """The fused pass's bytes a second over those of a device copy."""
    if not context.has_kernels:
        report.add(Row("fused pass", note="triton is not installed: not measured"))
        return
    from prunebench_plugins.elsa.kernels import fused_adam

    numel = context.size.pass_numel
    for name, (method, _) in list(VARIANTS.items())[:2]:
        W, g = (torch.randn(numel, device=context.device).view(-1, 256) for _ in range(2))
        moments, split = method.moments(W), method.split(W)
        split.update(W, W.abs() > 1)
        clip = torch.ones((), device=context.device)
        work = lambda: fused_adam(W, g, moments, LR, 1, clip, lmda=0.01, split=split)  # type: ignore[arg-type]  # noqa: B023, E731
        moved = 2 * nbytes([W, *moments.tensors()]) + nbytes([g, *split.tensors()])
        rate = moved / median_seconds(work, context.device)
        copied = 2 * nbytes([W]) / median_seconds(lambda: g.copy_(W), context.device)  # noqa: B023
        report.measured(f"{name}: fused pass", rate / 1e9, "GB/s")
        met = None if report.miniature else rate >= 0.8 * copied
        report.add(Row(f"{name}: fused pass over a device copy's rate", 100 * rate / copied, "%", "≥ 80 %", met))


def median(values: Iterator[float]) -> float:
    """Median of an iterator."""
    return statistics.median(list(values))
