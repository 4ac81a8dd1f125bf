"""One run of a method on a tiny model, and what was found amiss."""

import json
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.allocations.budget import sizes_of, spread
from prunebench.contract.checks import Snapshot, watched
from prunebench.contract.rules import Violation
from prunebench.pruning import Allocated, Sparsity, Unstructured
from prunebench.pruning.callbacks import Checkpointer, MethodState, use_checkpointer
from prunebench.pruning.sparsity import parse_pattern
from prunebench.quiet import quiet_hub_libraries
from prunebench.registry.manager import plugin_manager
from prunebench.registry.method_class import MethodClass
from prunebench.testing.live_bytes import LiveBytes
from prunebench.testing.models import MODELS, calibration

SPREAD = 0.1  # between the sparsities of neighbouring layers, where they differ


@dataclass(frozen=True)
class Trial:
    """What is tried.

    Args:
        architecture: a name in ``prunebench.testing.models.MODELS``.
        pattern: as in a suite, "0.5" or "2:4".
        dtype: of the model's parameters.
        reload: whether the pruned model is also saved and loaded again.
        uneven: whether every other layer is asked for more zeros, the others for as many fewer.
        noise: what the global generators are seeded with; of no consequence to a method that leaves them alone.
    """

    architecture: str
    pattern: str
    dtype: torch.dtype = torch.float32
    reload: bool = False
    uneven: bool = False
    noise: int = 0

    def __str__(self) -> str:
        kind = "" if self.dtype is torch.float32 else f" in {str(self.dtype).removeprefix('torch.')}"
        return f"{self.architecture} at {self.pattern}{kind}{', its layers unlike' * self.uneven}"

    def sparsity_of(self, model: nn.Module) -> Sparsity:
        """What the method is asked for."""
        pattern = parse_pattern(self.pattern)
        if not self.uneven or not isinstance(pattern, Unstructured):
            return pattern
        sizes = sizes_of(model)
        wanted = {name: SPREAD * (place % 2) for place, name in enumerate(sizes)}
        return Allocated(pattern, spread(wanted, sizes, pattern))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a trial.

    Args:
        trial: what was tried.
        violations: rules that do not hold, each with the first place where.
        before, after: the model's tensors by name; ``after`` is empty where ``prune`` raised.
        tied: whether the head and the embeddings were one parameter before.
    """

    trial: Trial
    violations: tuple[Violation, ...]
    before: Mapping[str, Tensor] = field(repr=False)
    after: Mapping[str, Tensor] = field(repr=False)
    tied: bool = False


class Interruption(BaseException):
    """Ends a run where it has kept something."""


class Memory:
    """Keeps what a method keeps, ends the run at one of its saves, and lets another go on from there.

    Args:
        saves: the save that ends the run.
    """

    def __init__(self, saves: int) -> None:
        self._left, self._walks = saves, 0
        self._kept: dict[str, MethodState] = {}

    def kept(self, name: str) -> MethodState | None:
        """As ``prunebench.pruning.callbacks.Checkpointer`` says."""
        return self._kept.get(name)

    def due(self) -> bool:
        """Always, until the run was ended."""
        return self._left > 0

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """A copy; facts as they come back from JSON."""
        self._kept[name] = {key: tensor.clone() for key, tensor in tensors.items()}, json.loads(json.dumps(facts))
        self._left -= 1
        if self._left == 0:
            self._walks = 0
            raise Interruption

    def begin_walk(self) -> int:
        """The number of this walk in this run."""
        self._walks += 1
        return self._walks - 1


def run_trial(
    method: MethodClass, options: Mapping[str, Any], trial: Trial, keeper: Checkpointer | None = None
) -> Outcome:
    """Prune a tiny model as the runner would, and look for what does not hold.

    Raises:
        Interruption: ``keeper`` ended the run.
    """
    model = MODELS[trial.architecture]().to(trial.dtype)
    data, sparsity = calibration(), trial.sparsity_of(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tied = _heads_are_tied(model)
    with _generators_kept(trial.noise):
        manager = plugin_manager(method, options)
        instance = manager.get_plugin(method.name)
        snapshot = Snapshot.of(model, sparsity, method.changes, data=data, method=instance)
        try:
            with watched() as watch, use_checkpointer(keeper) if keeper else nullcontext():
                manager.hook.prune(model=model, data=data, sparsity=sparsity)
        except Exception as error:  # a plugin may raise anything
            return Outcome(trial, (Violation("runs", _told(error)),), before, {})
        found = list(snapshot.violations(model, data=data, method=instance, watch=watch))
    if tied and not _heads_are_tied(model):
        found.append(Violation("tied", "the output embeddings are no longer the input embeddings' parameter"))
    if trial.reload:
        found += _not_reloaded(model)
    first = {violation.rule: violation for violation in reversed(found)}
    return Outcome(trial, tuple(first.values()), before, model.state_dict(), tied)


def peak_beyond(model: nn.Module, work: Any) -> int:
    """Bytes of new tensors that ``work()`` keeps alive at once, the model's own not counted."""
    with _generators_kept(0), LiveBytes([*model.parameters(), *model.buffers()]) as live, watched():
        work()
    return int(live.peak)


@contextmanager
def _generators_kept(noise: int) -> Iterator[None]:
    """Seed the global generators inside, and put them back as they were."""
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.manual_seed(noise)
    random.seed(noise)
    np.random.seed(noise)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _told(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _heads_are_tied(model: Any) -> bool:
    tied: bool = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return tied


def _not_reloaded(model: Any) -> Iterator[Violation]:
    """What a saved and reloaded model has otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with quiet_hub_libraries():
                model.save_pretrained(folder)
                again = type(model).from_pretrained(folder, dtype=model.dtype).state_dict()
        except Exception as error:  # whatever a method has made of the model
            yield Violation("reload", f"the model cannot be saved and loaded: {_told(error)}")
            return
    for told in differences(model.state_dict(), again):
        yield Violation("reload", f"saved and loaded again, {told}")


def differences(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The first tensor that is not the same in both, in a line; NaN equals NaN."""
    for name, tensor in one.items():
        beside = other.get(name)
        if beside is None:
            return [f"{name} is missing"]
        if beside.shape != tensor.shape or beside.dtype != tensor.dtype:
            return [f"{name} is {beside.dtype} {tuple(beside.shape)} instead of {tensor.dtype} {tuple(tensor.shape)}"]
        if differs := int(((tensor != beside) & ~(tensor.isnan() & beside.isnan())).sum()):
            return [f"{differs} of {tensor.numel()} weights of {name} differ"]
    return []
