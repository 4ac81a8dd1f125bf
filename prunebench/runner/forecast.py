"""What cells will cost, before they run: shapes, and a short calibration run of each method on each model.

Nothing is known of a method but what it tells every listener: how many of its steps are done. So it is started on the
model itself, with its own options, and stopped once a few seconds are over; the time of the steps that were seen is
carried on to those that were not, and the peak of memory is taken to be reached by then, since what a method holds is
allocated when it begins, or anew in each block. A method that never says where it is runs to its end.
"""

import gc
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prunebench.evaluation.interface import Expected
from prunebench.models.loading import load_model
from prunebench.models.source import weight_bytes
from prunebench.pruning.callbacks import use_observer
from prunebench.pruning.layers import all_layers, prunable
from prunebench.pruning.nested import HELD, held
from prunebench.pruning.offload import written_back
from prunebench.pruning.sparsity import NM
from prunebench.records.record import Forecast
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager
from prunebench.runner.mask_sample import SAMPLED_WEIGHTS
from prunebench.runner.memory import PeakMemory, available_bytes
from prunebench.runner.resources import Resources, work_folder
from prunebench.suite.cell import Cell, StageMethod

SECONDS = 5.0
RECORD_BYTES = 5500


class _Enough(BaseException):
    """Ends a calibration run; no ``except Exception`` of a method holds it up."""


class _Stopwatch:
    """Times the steps of the first label it hears, which is the outermost, and stops the work when time is up."""

    def __init__(self, seconds: float) -> None:
        self._limit = seconds
        self._label: str | None = None
        self._total: int | None = None
        self._times: list[float] = []
        self._began = self._ended = time.perf_counter()

    def step(self, label: str, done: int, total: int | None) -> None:
        now = time.perf_counter()
        if self._label is None:
            self._label, self._total = label, total
        if label == self._label:
            self._times.append(now)
            if now - self._began >= self._limit and done >= 2 and total is not None and done < total:
                raise _Enough

    def note(self, what: str, where: dict[str, object]) -> None: ...
    def trace(self, step: int, values: dict[str, float]) -> None: ...
    def account(self, amounts: dict[str, Any]) -> None: ...

    def seconds(self, work: Callable[[], object]) -> float:
        """How long ``work`` takes, or would have taken had it not been stopped."""
        self._began = time.perf_counter()
        try:
            with use_observer(self):
                work()
            return time.perf_counter() - self._began
        except _Enough:
            # The first step pays for what is set up once.
            first, last, done = self._times[1], self._times[-1], len(self._times) - 1
            assert self._total is not None
            return first - self._began + (last - first) / (done - 1) * (self._total - 1)


def forecast_cells(
    cells: Iterable[Cell],
    resources: Resources,
    *,
    seconds: float = SECONDS,
    save_models: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Forecast]:
    """Forecast time, memory and disk of each cell.

    One calibration run serves all sparsities of a kind and all seeds of a method on a model.

    Args:
        cells: what is planned.
        resources: what cells share.
        seconds: after which a calibration run is stopped.
        save_models: whether the pruned models are kept.
        tell: takes a line for the reader: what is being measured, what does not fit or cannot be told.
    """
    cells = list(cells)
    room = {device: available_bytes(device) for device in {cell.device for cell in cells}}
    known: dict[str, Any] = {}
    forecasts = []
    for cell in cells:
        weights = weight_bytes(resources.model(cell), cell.dtype)
        if (available := room[cell.device]) is not None and weights > available and cell.device != "disk":
            _warn(cell, f"its weights alone take {_gib(weights)} of {_gib(available)}", known, tell)
            forecasts.append(Forecast(cell=cell.id, peak_bytes=weights))
            continue
        measuring = _key(cell, "evaluate")
        if measuring not in known:
            tell(f"measuring {cell.model} …")
            known[measuring] = _attempt(_evaluation, cell, resources, seconds, tell)
        pruning = _key(cell, "prune")
        if pruning not in known:
            tell(f"measuring {cell.method} on {cell.model} …")
            known[pruning] = _attempt(_pruning, cell, resources, seconds, tell)
        pruned, measured = known[pruning], known[measuring]
        if pruned and available is not None and pruned.peak and pruned.peak > available:
            _warn(cell, f"it takes {_gib(pruned.peak)} of {_gib(available)}", known, tell)
        disk = _disk_bytes(cell, weights, pruned, measured, save_models=save_models) if pruned and measured else None
        forecasts.append(
            Forecast(
                cell=cell.id,
                prune_seconds=pruned and pruned.seconds,
                evaluate_seconds=measured and measured.seconds,
                peak_bytes=pruned and pruned.peak,
                disk_bytes=disk,
            )
        )
    return forecasts


def _key(cell: Cell, part: str) -> str:
    """What one calibration run is good for."""
    shared: list[Any] = [part, cell.model_digest, cell.dtype, cell.device]
    if part == "evaluate":
        shared += [entry.model_dump(mode="json") for entry in cell.evaluations]
    else:
        shared += [
            [method[:3] for method in cell.methods],
            cell.calibration.model_dump(mode="json"),
            isinstance(cell.sparsity, NM),
        ]
    return json.dumps(shared, sort_keys=True, default=str)


def _attempt(
    measure: Callable[[Cell, Resources, float], Any],
    cell: Cell,
    resources: Resources,
    seconds: float,
    tell: Callable[[str], None],
) -> Any:
    """None where a calibration run fails; the cell itself may fail likewise, and will say why."""
    try:
        return measure(cell, resources, seconds)
    except Exception as error:  # a plugin may raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        tell(f"warning: nothing can be told of {cell.method} on {cell.model}: {reason}")
        return None
    finally:
        gc.collect()
        if cell.device == "cuda":
            torch.cuda.empty_cache()


def _warn(cell: Cell, why: str, known: dict[str, Any], tell: Callable[[str], None]) -> None:
    words = f"warning: {cell.method} on {cell.model} does not fit in the memory of {cell.device}: {why}"
    if known.setdefault(words, True) is True:
        known[words] = "told"
        tell(words)


@dataclass(frozen=True)
class _Pruning:
    """Seconds, peak of bytes, and how many weights there are to prune (0 for a method that changes nothing)."""

    seconds: float
    peak: int | None
    prunable: int


def _pruning(cell: Cell, resources: Resources, seconds: float) -> _Pruning:
    """All stages of a cell, each for ``seconds``; one that follows another finds the zeros asked for anywhere."""
    found = []
    for stage in cell.methods:
        with work_folder(resources.output, cell) as work:
            found.append(_stage_in(cell, stage, resources, seconds, work))
    peaks = [each.peak for each in found if each.peak is not None]
    return _Pruning(sum(each.seconds for each in found), max(peaks, default=None), max(e.prunable for e in found))


def _stage_in(cell: Cell, stage: StageMethod, resources: Resources, seconds: float, work: Path | None) -> _Pruning:
    method = load_method(stage.plugin, [Path(stage.plugin_file)] if stage.plugin_file else [])
    model, tokenizer = load_model(resources.model(cell), dtype=cell.dtype, device=cell.device, work=work)
    data = resources.calibration(cell, tokenizer)
    hook, sparsity = plugin_manager(method, stage.options, map(Path, cell.wrapper_files)).hook, cell.sparsity
    layers = [] if method.changes == "nothing" else all_layers(model)
    if stage.mask is not None:
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)
    asked = held(sparsity) if stage.mask == HELD else sparsity

    def prune() -> None:
        with written_back(model):
            hook.prune(model=model, data=data, sparsity=asked)
        if cell.device == "cuda":
            torch.cuda.synchronize()

    with PeakMemory(cell.device) as peak:
        took = _Stopwatch(seconds).seconds(prune)
    return _Pruning(took, peak.bytes, sum(math.prod(layer.shape) for layer in layers))


def _evaluation(cell: Cell, resources: Resources, seconds: float) -> Expected:
    """The dense model is measured: zeros change neither time nor size."""
    with work_folder(resources.output, cell) as work:
        return _evaluation_in(cell, resources, seconds, work)


def _evaluation_in(cell: Cell, resources: Resources, seconds: float, work: Path | None) -> Expected:
    model, tokenizer = load_model(resources.model(cell), dtype=cell.dtype, device=cell.device, work=work)
    expected = [
        evaluation.bound().forecast(
            model, tokenizer, lambda work: _Stopwatch(seconds).seconds(work), **resources.available(cell), saved=None
        )
        for evaluation in cell.evaluations
        if evaluation not in cell.skipped
    ]
    return Expected(sum(each.seconds for each in expected), sum(each.bytes for each in expected))


def _disk_bytes(cell: Cell, weights: int, pruned: _Pruning, measured: Expected, *, save_models: bool) -> int:
    """The record, the evidence, the sample of the mask, and where models are kept an ordinary and a compact one."""
    kept = RECORD_BYTES + measured.bytes + min(SAMPLED_WEIGHTS, pruned.prunable) // 8
    if not save_models or pruned.prunable == 0:
        return kept
    size = 2 if cell.dtype in ("bfloat16", "float16") else 4
    zeros = cell.sparsity.ratio * pruned.prunable
    return kept + 2 * weights - round(size * zeros - pruned.prunable / 8)


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
