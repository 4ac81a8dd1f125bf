"""One method inside another."""

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn

from prunebench.pruning.calibration import CalibrationData
from prunebench.pruning.callbacks import Checkpointer, MethodState, active_callbacks, use_checkpointer
from prunebench.pruning.sparsity import Held, Sparsity

HELD = "held"


def apply(method: Any, model: nn.Module, data: CalibrationData, sparsity: Sparsity) -> None:
    """Run another method on the model, as one part of a method's own work.

    Its progress, notes and traces are told as one's own, and what it saves resumes. What it is asked for is checked
    only when one's own method has returned: ask for ``changes`` as wide as the widest part's.

    Args:
        method: an instance, as ``ALPS(rho=0.3)``.
        model: the model as it is now. A method that says ``mask: ClassVar = "held"`` keeps the mask that is there.
        data: calibration data.
        sparsity: what it is asked for.
    """
    if getattr(type(method), "mask", None) == HELD:
        sparsity = held(sparsity)
    checkpointer = active_callbacks().checkpointer
    known = {"model": model, "data": data, "sparsity": sparsity}
    with use_checkpointer(_Inner(checkpointer)) if checkpointer is not None else nullcontext():
        method.prune(**{name: known[name] for name in inspect.signature(method.prune).parameters})


def held(sparsity: Sparsity) -> Held:
    """The same sparsity for a method that holds the masks that are there."""
    return sparsity if isinstance(sparsity, Held) else Held(sparsity)


class _Inner:
    """The checkpointer of one method inside another: its names are apart from those of all other parts.

    Args:
        outer: of the method around it.
    """

    def __init__(self, outer: Checkpointer) -> None:
        self._outer, self._part = outer, f"part {outer.begin_walk()}"

    def kept(self, name: str) -> MethodState | None:
        return self._outer.kept(f"{self._part}/{name}")

    def due(self) -> bool:
        return self._outer.due()

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        self._outer.keep(f"{self._part}/{name}", tensors, facts)

    def forget(self, name: str) -> None:
        self._outer.forget(f"{self._part}/{name}")

    def begin_walk(self) -> int:
        return self._outer.begin_walk()
