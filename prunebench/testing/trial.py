"""One trial: a run of a method on a tiny model, as the process that runs plugins sees it.

What it says of rules that only show in its own process (hooks, modes, generators …) is its own word. Its tensors are
handed over in a file, and checked by whoever asked (``prunebench.testing.checking``).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.allocations.budget import sizes_of, spread
from prunebench.contract.live import LiveState, watched
from prunebench.contract.rules import Violation
from prunebench.errors import PrunebenchError
from prunebench.pruning import Allocated, Sparsity, UnknownMatrixError, Unstructured
from prunebench.pruning.callbacks import Checkpointer, MethodState, use_checkpointer
from prunebench.pruning.layers import all_layers
from prunebench.pruning.nested import HELD, held
from prunebench.pruning.sparsity import PatternError, parse_pattern
from prunebench.quiet import quiet_hub_libraries
from prunebench.registry.manager import plugin_manager
from prunebench.registry.method_class import MethodClass
from prunebench.runner.handover import hand_over
from prunebench.testing.memory import seeded_generators
from prunebench.testing.models import MODELS, calibration, prune_by_magnitude
from prunebench.testing.said import Breach, Pruned
from prunebench.tracebacks import author_line, describe_error

SPREAD = 0.1  # difference between the sparsities of neighbouring layers in an uneven trial
SAVED = "saved"  # folder of the model as transformers saves it, in a trial's own folder


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
        dtype = "" if self.dtype is torch.float32 else f" in {self._dtype_name}"
        how = ", its layers unlike" * self.uneven + ", after magnitude" * self.follows
        return f"{self.architecture} at {self.pattern}{dtype}{how}"

    @property
    def _dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def plain(self) -> dict[str, Any]:
        """The settings as plain JSON."""
        return {**vars(self), "dtype": self._dtype_name}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Trial":
        """The settings of ``plain`` again."""
        return cls(**{**content, "dtype": getattr(torch, content["dtype"])})

    def dense(self) -> Any:
        """The model before any pruning."""
        return MODELS[self.architecture]().to(self.dtype)

    def model(self) -> Any:
        """The model as the method finds it."""
        model = self.dense()
        if self.follows:
            prune_by_magnitude(model, self.sparsity_of(model))
        return model

    def asked(self, model: nn.Module, mask: str | None) -> Sparsity:
        """The sparsity that a method is asked for that does ``mask`` with the masks that it finds."""
        sparsity = self.sparsity_of(model)
        return held(sparsity) if self.follows and mask == HELD else sparsity

    def sparsity_of(self, model: nn.Module) -> Sparsity:
        """The sparsity that the method is asked for."""
        pattern = parse_pattern(self.pattern)
        if not self.uneven or not isinstance(pattern, Unstructured):
            return pattern
        sizes = sizes_of(model)
        offsets = {name: SPREAD * (index % 2) for index, name in enumerate(sizes)}
        return Allocated(pattern, spread(offsets, sizes, pattern))


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

    @property
    def names(self) -> list[str]:
        """Under which names something is saved."""
        return list(self._states)

    def forget(self, name: str) -> None:
        """Remove what was saved under a name."""
        self._states.pop(name, None)

    def begin_walk(self) -> int:
        """The number of this walk in this run."""
        self._walks += 1
        return self._walks - 1


def prune_in_turn(
    method: MethodClass, options: Mapping[str, Any], trials: Sequence[Trial], folder: Path
) -> list[Pruned]:
    """Run trials one after the other in this process.

    Args:
        method, options: what is tried.
        trials: with which settings.
        folder: takes the tensors of each in a folder named by its number.
    """
    found = []
    for number, trial in enumerate(trials):
        (own := folder / str(number)).mkdir()
        found.append(prune_trial(method, options, trial, own))
    return found


def prune_interrupted(method: MethodClass, options: Mapping[str, Any], trial: Trial, folder: Path) -> list[Pruned]:
    """Run a trial as a whole, and once more interrupted at its second save and resumed.

    Returns:
        Both, their tensors as in ``prune_in_turn``; nothing where fewer than two states are saved, or the method fails.
    """
    for name in ("interrupted", "0", "1"):
        (folder / name).mkdir()
    checkpointer = InterruptingCheckpointer(saves=2)
    try:
        prune_trial(method, options, trial, folder / "interrupted", checkpointer)
    except Interruption:
        whole = prune_trial(method, options, trial, folder / "0")
        return [whole, prune_trial(method, options, trial, folder / "1", checkpointer)]
    return []


def prune_trial(
    method: MethodClass,
    options: Mapping[str, Any],
    trial: Trial,
    folder: Path,
    checkpointer: Checkpointer | None = None,
) -> Pruned:
    """Prune a tiny model as the runner would, and hand its tensors over.

    Args:
        method: the method.
        options: its options.
        trial: model, pattern and other settings.
        folder: an empty one, for the tensors.
        checkpointer: saves the states from which an interrupted run resumes.

    Raises:
        Interruption: ``checkpointer`` ended the run.
    """
    model, data = trial.model(), calibration(teacher=trial.dense)
    sparsity, tied = trial.asked(model, method.mask), _is_head_tied(model)
    with seeded_generators(trial.noise), _backward_passes() as passes:
        manager = plugin_manager(method, options)
        instance = manager.get_plugin(method.name)
        before = LiveState.of(model, data, instance)
        try:
            with watched() as watch, use_checkpointer(checkpointer) if checkpointer else nullcontext():
                manager.hook.prune(model=model, data=data, sparsity=sparsity)
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            return Pruned(returned=False, breaches=(Breach(rule="runs", measured=_error_line(error)),))
        violations = [*before.violations(model, data, instance, watch, prunes=method.changes != "nothing")]
        violations += [*before.tensor_violations(model, method.changes), *_replaced_modules(model)]
    if tied and not _is_head_tied(model):
        violations.append(Violation("tied", "the output embeddings are no longer the input embeddings' parameter"))
    hand_over(model, folder)
    if trial.reload:
        try:
            with quiet_hub_libraries():
                model.save_pretrained(folder / SAVED)
        except Exception as error:  # a method may leave the model in any state
            violations.append(Violation("reload", f"the model cannot be saved and loaded: {_error_line(error)}"))
    first = {violation.rule: violation for violation in reversed(violations)}
    breaches = tuple(Breach(rule=found.rule, measured=found.measured[:10_000]) for found in first.values())
    return Pruned(returned=True, breaches=breaches, backward=bool(passes))


@contextmanager
def _backward_passes() -> Iterator[list[None]]:
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


def _error_line(error: BaseException) -> str:
    """An exception in one line: type, message, and file and line of its author's own frame."""
    if isinstance(error, SystemExit):
        return f"SystemExit: sys.exit({error.code!r}) was called: return from prune, or raise an exception"
    where = author_line(error) if isinstance(error, PrunebenchError) else None
    named = f" ({where[0].name}, line {where[1]})" if where else ""
    return f"{type(error).__name__}: {describe_error(error)}{named}"[:10_000]


def _replaced_modules(model: Any) -> Iterator[Violation]:
    """Whether a module was put in the place of a matrix's own, under the name of which its parameter still goes."""
    try:
        all_layers(model)
    except (UnknownMatrixError, PatternError, RuntimeError) as failure:
        yield Violation("tensors", f"the prunable matrices are not as they were found: {failure}")


def _is_head_tied(model: Any) -> bool:
    tied: bool = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return tied
