"""The methods ``elsa`` and ``elsa-l``, and their options."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from prunebench import hookimpl
from prunebench.pruning import (
    CalibrationData,
    Hessian,
    Layer,
    Sparsity,
    Target,
    account,
    calibrated,
    note,
    prunable,
    trainable,
)
from prunebench_plugins.elsa.algorithm import elsa
from prunebench_plugins.elsa.codes import E4M3
from prunebench_plugins.elsa.schedules import LambdaSchedule, penalty
from prunebench_plugins.elsa.states import (
    FullMoments,
    Layout,
    Moments,
    OneState,
    Split,
    TwoStates,
    eight_bit_unless_small,
)
from prunebench_plugins.elsa.training import TaskGradient, reconstruction_gradient
from prunebench_plugins.elsa.variables import Matrix, Projection, Stack, Variable

Loss = Literal["global", "layerwise"]
Only = Literal["prunable", None]
ENOUGH_TRAVEL = 3.0
ENOUGH_UPDATES = 16  # in the ablations as good as 32; 8 are worse at 0.95


@dataclass(frozen=True)
class Elsa:
    """Train the whole model on its own loss while ADMM draws its weights to a sparse copy of themselves.

    The defaults are the authors' recipe for large models: 4096 steps of 8 windows, so 67 M tokens at 2048 a window.
    A weight can travel about lr·steps/2 in a run, which must be several times the weights' rms: in a shorter run
    raise lr first, then lower the interval to keep 16 updates or more, and choose lmda last.

    Args:
        steps: T, Adam steps.
        lr: learning rate of the first step; it falls linearly to 0. The authors tune it by sparsity, from 1e-5 at
            50 % to 2e-4 at 80 % and above, and print 2e-4.
        lmda: λ, the penalty; where the schedule is not constant, its final value.
        lmda_init: λ at the start; not used by a constant schedule.
        lmda_schedule: constant, linear, cosine or exponential; the authors use cosine from 0 for large models and a
            constant for the smallest.
        interval: K, steps between two updates of z and u.
        batch_size: windows in a micro-batch.
        grad_accumulation: micro-batches in a step; batch_size · grad_accumulation is the effective batch.
        projection: what is kept: objective, the largest v·(W + u)², as in the paper's text; magnitude, the largest
            |W + u|, the released code's default. The last projection is of W, without u.
        grad_checkpointing: recompute the blocks' activations in the backward pass, to save memory.
        layout: one-state keeps z − u and a bit for each weight, two-state z and u: the same numbers, more bytes.
        loss: global, the model's next-token loss; layerwise, for comparison, each matrix's output error on the
            calibration windows, with the whole budget of steps for each matrix.
        only: prunable, the pruned matrices alone are trained: embeddings, head, norms and biases stay; by default all
            parameters are.
    """

    revision: ClassVar[int] = 1
    changes: ClassVar[str] = "all"
    cites: ClassVar[tuple[str, ...]] = ("2510.01650",)

    steps: int = 4096
    lr: float = 2e-4
    lmda: float = 0.01
    lmda_init: float = 0.0
    lmda_schedule: LambdaSchedule = "cosine"
    interval: int = 32
    batch_size: int = 8
    grad_accumulation: int = 1
    projection: Projection = "objective"
    grad_checkpointing: bool = False
    layout: Layout = "one-state"
    loss: Loss = "global"
    only: Only = None

    def __post_init__(self) -> None:
        for name in ("steps", "interval", "batch_size", "grad_accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1: give a whole number from 1 up")
        for name in ("lr", "lmda"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} {getattr(self, name)} is not positive: give a finite number above 0, as 0.01")
        if not 0 <= self.lmda_init < float("inf"):
            raise ValueError(f"lmda_init {self.lmda_init} is negative or infinite: give a finite number from 0 up")
        if self.lmda_schedule == "exponential" and self.lmda_init == 0:
            raise ValueError("lmda_init 0 has no exponential schedule: give a number above 0, as lmda/100")
        for name, kind in (
            ("lmda_schedule", LambdaSchedule),
            ("projection", Projection),
            ("layout", Layout),
            ("loss", Loss),
            ("only", Only),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown: valid: {', '.join(map(str, get_args(kind)))}"
                )

    @hookimpl
    def prune(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Train and prune; see ``algorithm.elsa``."""
        if self.loss == "layerwise":
            return self.prune_layerwise(model, data, sparsity)
        pruned: dict[nn.Parameter, list[tuple[Layer, Target]]] = {}  # a mixture's experts share a parameter
        for layer, target in prunable(model, sparsity):
            pruned.setdefault(layer.parameter, []).append((layer, target))
        dtypes = {parameter: parameter.dtype for parameter in pruned}
        chosen = None if self.only is None else pruned
        with trainable(model, chosen, grad_checkpointing=self.grad_checkpointing) as parameters:
            matrices = [
                Matrix(
                    parameter,
                    self.moments(parameter.detach()),
                    self.split(parameter.detach()),
                    Stack([(target, layer.view) for layer, target in members]),
                    dtype=dtypes[parameter],
                )
                for parameter, members in pruned.items()
            ]
            others = [Variable(x, self.moments(x.detach())) for x in parameters if x not in pruned]
            self.note_short_run(matrices)
            account(
                state_bytes=sum(nbytes([x.W, *x.moments.tensors(), *x.split.tensors()]) for x in matrices),
                gradient_bytes=nbytes([x.W for x in (*matrices, *others)]),
                other_state_bytes=sum(nbytes([x.W, *x.moments.tensors()]) for x in others),
            )
            gradient = TaskGradient(model, partial(data.batches, self.batch_size), self.grad_accumulation)
            self.run(matrices, others, gradient, loss_after=gradient.loss_again, resume=True)

    def prune_layerwise(self, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
        """Run the same ADMM, with the whole budget of steps, on each matrix's output error separately."""
        for layer, H, target in calibrated(model, data, sparsity, Hessian):
            W = layer.weight.float().clone()
            matrix = Matrix(W.requires_grad_(), self.moments(W), self.split(W), target, dtype=layer.weight.dtype)
            self.run([matrix], [], reconstruction_gradient(W, H.matrix))
            layer.weight.copy_(matrix.W)

    def run(
        self,
        matrices: list[Matrix],
        others: list[Variable],
        gradient: Callable[[int], Tensor],
        *,
        loss_after: Callable[[], Tensor] | None = None,
        resume: bool = False,
    ) -> None:
        """``algorithm.elsa`` with these options."""
        elsa(
            matrices,
            others,
            gradient,
            steps=self.steps,
            lr=self.lr,
            penalty=lambda t: penalty(self.lmda_schedule, self.lmda_init, self.lmda, t, self.steps),
            interval=self.interval,
            projection=self.projection,
            loss_after=loss_after,
            resume=resume,
        )

    def split(self, W: Tensor) -> Split:
        """Storage of z and u of a matrix: fp32."""
        one_state = self.layout == "one-state"
        return OneState(W, torch.float32) if one_state else TwoStates(W, torch.float32, torch.float32)

    def moments(self, W: Tensor) -> Moments:
        """Storage of Adam's m and v of a tensor: fp32."""
        return FullMoments(W)

    def note_short_run(self, matrices: list[Matrix]) -> None:
        """Note a run that is too short for its learning rate or its interval, or that lacks its fused kernel."""
        if matrices[0].W.is_cuda and find_spec("triton") is None:
            note("triton is not installed, so a step takes several passes over memory: pip install 'prunebench[gpu]'")
        squares = sum(float(matrix.W.norm()) ** 2 for matrix in matrices)
        rms = (squares / sum(matrix.W.numel() for matrix in matrices)) ** 0.5
        travel = self.lr * self.steps / 2
        account(travel=travel / rms if rms else None)
        if travel < ENOUGH_TRAVEL * rms:
            note(
                "weights can travel less than three times their rms (lr·steps/2): raise lr or steps",
                travel=f"{travel:.3g}",
                rms=f"{rms:.3g}",
            )
        if -(-self.steps // self.interval) < ENOUGH_UPDATES:
            note(f"fewer than {ENOUGH_UPDATES} updates of z and u: lower interval or raise steps")


@dataclass(frozen=True)
class ElsaL(Elsa):
    """ELSA with its states in 8 bits: 7.2 bytes a pruned weight instead of 16.1, gradient not counted.

    The same run. z − u is stored in fp8 (e4m3) with two scales a parameter (which may stack the matrices of all
    experts), Adam's moments by 8-bit dynamic maps with a scale for each 256 entries of a row (or what is left of the
    row); both are read as fp32, and z − u is rounded at updates only. Storage is all that fp8 is used for, so any
    CUDA device and any CPU will do.

    Args:
        steps: T, Adam steps.
        lr: learning rate of the first step; it falls linearly to 0.
        lmda: λ, the penalty; where the schedule is not constant, its final value.
        lmda_init: λ at the start; not used by a constant schedule.
        lmda_schedule: constant, linear, cosine or exponential.
        interval: K, steps between two updates of z and u.
        batch_size: windows in a micro-batch.
        grad_accumulation: micro-batches in a step; batch_size · grad_accumulation is the effective batch.
        projection: what is kept: objective, the largest v·(W + u)²; magnitude, the largest |W + u|; at the end of W.
        grad_checkpointing: recompute the blocks' activations in the backward pass, to save memory.
        layout: one-state keeps z − u and a bit for each weight; two-state is the paper's, z in e4m3 and u in bf16, 9
            bytes a weight.
        loss: global, the model's next-token loss; layerwise, for comparison, each matrix's output error.
        only: prunable, the pruned matrices alone are trained; by default all parameters are.
        c_dtype: what z − u is kept in: fp8 (7.2 bytes a weight) or bf16 (8.2); one-state only.
    """

    revision: ClassVar[int] = 2

    c_dtype: Literal["fp8", "bf16"] = "fp8"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.c_dtype not in ("fp8", "bf16"):
            raise ValueError(f"c_dtype {self.c_dtype!r} is unknown: valid: fp8, bf16")
        if self.layout == "two-state" and self.c_dtype != "fp8":
            raise ValueError(f"c_dtype {self.c_dtype} belongs to layout one-state; the two-state layout has no c")

    def split(self, W: Tensor) -> Split:
        """Storage of z and u of a matrix: fp8, or what ``layout`` and ``c_dtype`` say."""
        if self.layout == "two-state":
            return TwoStates(W, E4M3, torch.bfloat16)
        return OneState(W, E4M3 if self.c_dtype == "fp8" else torch.bfloat16)

    def moments(self, W: Tensor) -> Moments:
        """Storage of Adam's m and v of a tensor: 8 bits, fp32 if it is small."""
        return eight_bit_unless_small(W)


def nbytes(tensors: list[Tensor]) -> int:
    """Memory of these tensors, bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
