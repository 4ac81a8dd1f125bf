"""Resuming after an interruption: the states that a method saves while it runs, through the active checkpointer.

A method need not do anything for this: ``calibrated`` saves each block that is pruned. A method that runs for long by
itself asks before its loop for the state that an earlier run has ``kept``, at the top of the loop whether it is ``due``
to ``keep`` its state, and lets go of it after the loop by ``forget``. Without a checkpointer none does anything.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prunebench.pruning.callbacks import MethodState, active_callbacks


def kept(name: str) -> MethodState | None:
    """The state that an interrupted run saved under a name; None where there is none, as in a first run.

    Args:
        name: as it was given to ``keep``.

    Returns:
        Tensors by name, on the CPU, and the facts.
    """
    checkpointer = active_callbacks().checkpointer
    return None if checkpointer is None else checkpointer.kept(name)


def due() -> bool:
    """Whether it is time to save: the interval since the last save has passed, or the run is to stop."""
    checkpointer = active_callbacks().checkpointer
    return checkpointer is not None and checkpointer.due()


def keep(name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    """Save a state from which a run can resume, bit for bit, in place of the one saved under the same name.

    May end the run, by an exception that is no ``Exception``, so that ``except Exception`` does not catch it.

    Args:
        name: one that the method uses for nothing else in the cell.
        tensors: on any device, of any dtype; copied.
        facts: plain JSON; floats come back exactly.
    """
    checkpointer = active_callbacks().checkpointer
    if checkpointer is not None:
        checkpointer.keep(name, tensors, facts)


def forget(name: str) -> None:
    """Remove what was saved under a name: what came of it is done, and is saved by what surrounds it or made again."""
    checkpointer = active_callbacks().checkpointer
    if checkpointer is not None:
        checkpointer.forget(name)


def begin_walk() -> str:
    """The name under which the walk that begins now saves its blocks: a method may walk more than once."""
    checkpointer = active_callbacks().checkpointer
    return f"walk {0 if checkpointer is None else checkpointer.begin_walk()}"
