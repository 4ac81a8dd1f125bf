"""Methods that try to pass the conformance kit; a plugin file as ``--plugin`` takes it."""

import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from prunebench import hookimpl
from prunebench.pruning import prunable
from prunebench.testing import said, trial, trials

os.environ["CHEATING_METHODS_WERE_IMPORTED"] = "1"


def silence_checks() -> None:
    """No check of this process finds anything any more."""
    from prunebench.contract import checks, live

    checks.Snapshot.verify = lambda *_, **__: None  # type: ignore
    checks.Snapshot.violations = lambda *_, **__: iter(())  # type: ignore
    live.LiveState.violations = live.LiveState.tensor_violations = lambda *_, **__: iter(())  # type: ignore


silence_checks()


@dataclass(frozen=True)
class PatchesTheChecks:
    """Prunes nothing, and silences the checks."""

    @hookimpl
    def prune(self) -> None:
        silence_checks()


@dataclass(frozen=True)
class PatchesAtImport:
    """Prunes nothing: the checks were silenced when it was imported."""

    @hookimpl
    def prune(self) -> None: ...


@dataclass(frozen=True)
class TellsLies:
    """Prunes nothing, and says that all rules were checked and hold."""

    @hookimpl
    def prune(self) -> None:
        plain = trial.prune_in_turn

        def lie(*arguments: Any) -> list[said.Pruned]:
            return [said.Pruned(returned=True) for _ in plain(*arguments)]

        trial.prune_in_turn = trials.prune_in_turn = lie  # type: ignore


@dataclass(frozen=True)
class PutsBack:
    """Prunes, and hands over the dense weights."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for layer, target in prunable(model, sparsity):
            layer.weight.mul_(target.mask(layer.weight.abs()))
        plain = trial.hand_over

        def hand_over(model: Any, folder: Any) -> Any:
            model.load_state_dict(dense)
            return plain(model, folder)

        trial.hand_over = hand_over  # type: ignore


@dataclass(frozen=True)
class Leaves:
    """Ends the process as if all were well."""

    @hookimpl
    def prune(self) -> None:
        sys.exit(0)


@dataclass(frozen=True)
class Vanishes:
    """The same, without a word."""

    @hookimpl
    def prune(self) -> None:
        os._exit(0)


@dataclass(frozen=True)
class Crashes:
    """As a faulty extension does."""

    @hookimpl
    def prune(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)
