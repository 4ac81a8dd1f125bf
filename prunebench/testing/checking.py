"""The check of a trial: a model that no plugin has seen takes the tensors over, and the rules are checked on it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from prunebench.contract.checks import Snapshot
from prunebench.contract.rules import Violation
from prunebench.errors import ContractError
from prunebench.pruning.callbacks import Checkpointer
from prunebench.quiet import quiet_hub_libraries
from prunebench.registry.method_class import MethodClass
from prunebench.runner.handover import FILE, take_over
from prunebench.testing.said import Pruned
from prunebench.testing.trial import SAVED, Trial, prune_trial


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of a trial.

    Args:
        trial: its settings.
        violations: the first violation of each rule that was broken.
        before, after: the model's tensors by name; ``after`` is empty where ``prune`` raised.
        tied: whether the head and the embeddings were one parameter before.
        backward: whether a backward pass ran, as the trial's own process says.
    """

    trial: Trial
    violations: tuple[Violation, ...]
    before: Mapping[str, Tensor] = field(repr=False)
    after: Mapping[str, Tensor] = field(repr=False)
    tied: bool = False
    backward: bool = False


def check_trial(changes: str, mask: str | None, trial: Trial, pruned: Pruned, folder: Path) -> Outcome:
    """Check the tensors that a trial handed over, and join what is found to what its process says.

    Args:
        changes: what the method may change.
        mask: what it does with the masks that it finds, where it follows another.
        trial: its settings.
        pruned: what its process says.
        folder: holds the tensors.
    """
    model = trial.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    violations = [Violation(breach.rule, breach.measured) for breach in pruned.breaches]
    after: Mapping[str, Tensor] = {}
    if pruned.returned:
        snapshot = Snapshot.of(model, trial.sparsity_of(model), changes, mask=mask if trial.follows else None)
        try:
            take_over(model, folder / FILE)
        except ContractError as error:
            violations.append(Violation("tensors", str(error)))
        else:
            violations += snapshot.violations(model)
        after = model.state_dict()
    first = {violation.rule: violation for violation in reversed(violations)}
    return Outcome(trial, tuple(first.values()), before, after, tied, pruned.backward)


def run_trial(
    method: MethodClass, options: Mapping[str, Any], trial: Trial, checkpointer: Checkpointer | None = None
) -> Outcome:
    """Run a trial in this process, and check it.

    Args:
        method: the method.
        options: its options.
        trial: model, pattern and other settings.
        checkpointer: saves the states from which an interrupted run resumes.

    Raises:
        Interruption: ``checkpointer`` ended the run.
    """
    with tempfile.TemporaryDirectory() as folder:
        pruned = prune_trial(method, options, trial, Path(folder), checkpointer)
        return check_trial(method.changes, method.mask, trial, pruned, Path(folder))


def reload_difference(trial: Trial, folder: Path) -> str | None:
    """The difference between what a trial handed over and its model as it was saved and is loaded again.

    Args:
        trial: its settings.
        folder: holds both.

    Returns:
        One line; None where there is no difference.
    """
    model = trial.model()
    try:
        take_over(model, folder / FILE)
    except ContractError:  # told already
        return None
    try:
        with quiet_hub_libraries():
            saved = type(model).from_pretrained(folder / SAVED, dtype=model.dtype, use_safetensors=True)
    except Exception as error:  # a method may leave the model in any state
        return f"the model cannot be saved and loaded: {type(error).__name__}: {error}"
    return next(
        (f"saved and loaded again, {text}" for text in differences(model.state_dict(), saved.state_dict())), None
    )


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
