"""One trial: a run of a method on a tiny model, and the rules that it broke."""

import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunebench.allocations.budget import sizes_of, spread
from prunebench.contract.checks import Snapshot, watched
from prunebench.contract.rules import Violation
from prunebench.errors import PrunebenchError
from prunebench.pruning import Allocated, Sparsity, Unstructured, prunable
from prunebench.pruning.apply import held
from prunebench.pruning.callbacks import Checkpointer, MethodState, use_checkpointer
from prunebench.pruning.sparsity import parse_pattern
from prunebench.quiet import quiet_hub_libraries
from prunebench.registry.manager import plugin_manager
from prunebench.registry.method_class import MethodClass
from prunebench.testing.live_bytes import LiveBytes
from prunebench.testing.models import MODELS, calibration
from prunebench.tracebacks import author_line, describe_error

SPREAD = 0.1  # difference between the sparsities of neighbouring layers in an uneven trial


@dataclass(frozen=True)
class Trial:
    """The settings of one trial.

    Args:
        architecture: a name in ``prunebench.testing.models.MODELS``.
        pattern: as in a suite, "0.5" or "2:4".
        dtype: of the model's parameters.
        reload: whether the pruned model is also saved and loaded again.
        uneven: whether every other layer is asked for more zeros, the others for as many fewer.
        noise: seed of the global generators; a method that does not use them is not affected.
        follows: whether the model was pruned by magnitude before, so that the method comes second.
    """

    architecture: str
    pattern: str
    dtype: torch.dtype = torch.float32
    reload: bool = False
    uneven: bool = False
    noise: int = 0
    follows: bool = False

    def __str__(self) -> str:
        dtype = "" if self.dtype is torch.float32 else f" in {str(self.dtype).removeprefix('torch.')}"
        how = ", its layers unlike" * self.uneven + ", after magnitude" * self.follows
        return f"{self.architecture} at {self.pattern}{dtype}{how}"

    def sparsity_of(self, model: nn.Module) -> Sparsity:
        """The sparsity that the method is asked for."""
        pattern = parse_pattern(self.pattern)
        if not self.uneven or not isinstance(pattern, Unstructured):
            return pattern
        sizes = sizes_of(model)
        offsets = {name: SPREAD * (index % 2) for index, name in enumerate(sizes)}
        return Allocated(pattern, spread(offsets, sizes, pattern))


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of a trial.

    Args:
        trial: its settings.
        violations: the first violation of each rule that was broken.
        before, after: the model's tensors by name; ``after`` is empty where ``prune`` raised.
        tied: whether the head and the embeddings were one parameter before.
    """

    trial: Trial
    violations: tuple[Violation, ...]
    before: Mapping[str, Tensor] = field(repr=False)
    after: Mapping[str, Tensor] = field(repr=False)
    tied: bool = False


class Interruption(BaseException):
    """Raised by ``InterruptingCheckpointer`` to end a run after one of its saves."""


class InterruptingCheckpointer:
    """A ``prunebench.pruning.callbacks.Checkpointer`` in memory that ends the run at one of its saves.

    The next run with the same checkpointer resumes from the last state and is not interrupted.

    Args:
        saves: number of the save, from 1, that ends the run.
    """

    def __init__(self, saves: int) -> None:
        self._saves_left, self._walks = saves, 0
        self._states: dict[str, MethodState] = {}

    def kept(self, name: str) -> MethodState | None:
        """The state saved under a name."""
        return self._states.get(name)

    def due(self) -> bool:
        """True until the run was interrupted."""
        return self._saves_left > 0

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Save a copy of the tensors, and the facts as JSON restores them."""
        self._states[name] = {key: tensor.clone() for key, tensor in tensors.items()}, json.loads(json.dumps(facts))
        self._saves_left -= 1
        if self._saves_left == 0:
            self._walks = 0
            raise Interruption

    def begin_walk(self) -> int:
        """The number of this walk in this run."""
        self._walks += 1
        return self._walks - 1


def run_trial(
    method: MethodClass, options: Mapping[str, Any], trial: Trial, checkpointer: Checkpointer | None = None
) -> Outcome:
    """Prune a tiny model as the runner would, and check the rules of the contract.

    Args:
        method: the method.
        options: its options.
        trial: model, pattern and other settings.
        checkpointer: saves the states from which an interrupted run resumes.

    Raises:
        Interruption: ``checkpointer`` ended the run.
    """

    def dense() -> PreTrainedModel:
        return MODELS[trial.architecture]().to(trial.dtype)

    model, data = dense(), calibration(teacher=dense)
    sparsity = trial.sparsity_of(model)
    mask = method.mask if trial.follows else None
    if trial.follows:
        prune_by_magnitude(model, sparsity)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tied = _is_head_tied(model)
    with _seeded_generators(trial.noise):
        manager = plugin_manager(method, options)
        instance = manager.get_plugin(method.name)
        snapshot = Snapshot.of(model, sparsity, method.changes, data=data, method=instance, mask=mask)
        asked = held(sparsity) if mask == "held" else sparsity
        try:
            with watched() as watch, use_checkpointer(checkpointer) if checkpointer else nullcontext():
                manager.hook.prune(model=model, data=data, sparsity=asked)
        except Exception as error:  # a plugin may raise anything
            return Outcome(trial, (Violation("runs", _error_line(error)),), before, {})
        violations = list(snapshot.violations(model, data=data, method=instance, watch=watch))
    if tied and not _is_head_tied(model):
        violations.append(Violation("tied", "the output embeddings are no longer the input embeddings' parameter"))
    if trial.reload:
        violations += _reload_violations(model)
    first = {violation.rule: violation for violation in reversed(violations)}
    return Outcome(trial, tuple(first.values()), before, model.state_dict(), tied)


def prune_by_magnitude(model: nn.Module, sparsity: Sparsity) -> None:
    """Make a model sparse, for a method that follows another."""
    for layer, target in prunable(model, sparsity):
        layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)


@contextmanager
def backward_passes() -> Iterator[list[None]]:
    """Count backward passes inside this context, by the tensors that they ask for.

    Yields:
        A list that has a member for each tensor that a backward pass read: empty where there was none.
    """
    read: list[None] = []

    def unpack(tensor: Tensor) -> Tensor:
        read.append(None)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        yield read


def peak_bytes(model: nn.Module, function: Callable[[], object]) -> int:
    """The most bytes of new tensors alive at once while ``function()`` runs, the model's own not counted."""
    with _seeded_generators(0), LiveBytes([*model.parameters(), *model.buffers()]) as live, watched():
        function()
    return int(live.peak)


@contextmanager
def _seeded_generators(noise: int) -> Iterator[None]:
    """Seed the global generators inside this context, and restore their states afterwards."""
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


def _error_line(error: Exception) -> str:
    """An exception in one line: type, message, and file and line of its author's own frame."""
    where = author_line(error) if isinstance(error, PrunebenchError) else None
    named = f" ({where[0].name}, line {where[1]})" if where else ""
    return f"{type(error).__name__}: {describe_error(error)}{named}"


def _is_head_tied(model: Any) -> bool:
    tied: bool = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return tied


def _reload_violations(model: Any) -> Iterator[Violation]:
    """Differences between a model and itself after saving and loading."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with quiet_hub_libraries():
                model.save_pretrained(folder)
                reloaded = type(model).from_pretrained(folder, dtype=model.dtype).state_dict()
        except Exception as error:  # a method may leave the model in any state
            yield Violation("reload", f"the model cannot be saved and loaded: {_error_line(error)}")
            return
    for difference in differences(model.state_dict(), reloaded):
        yield Violation("reload", f"saved and loaded again, {difference}")


def differences(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> list[str]:
    """The first difference between two sets of tensors by name, in one line; empty where there is none.

    NaN equals NaN.
    """
    for name, tensor in expected.items():
        other = actual.get(name)
        if other is None:
            return [f"{name} is missing"]
        if other.shape != tensor.shape or other.dtype != tensor.dtype:
            return [f"{name} is {other.dtype} {tuple(other.shape)} instead of {tensor.dtype} {tuple(tensor.shape)}"]
        if count := int(((tensor != other) & ~(tensor.isnan() & other.isnan())).sum()):
            return [f"{count} of {tensor.numel()} weights of {name} differ"]
    return []
