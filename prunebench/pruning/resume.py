"""Going on after an interruption: what a method leaves along its way, to whoever keeps it.

A method need not do anything for this: ``calibrated`` keeps each block that is pruned. One that runs for long by
itself asks at the top of its loop whether it is ``due`` to ``keep`` its state, and before the loop for what an earlier
attempt has ``kept``. Nobody has to keep anything: then all three do nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from torch import Tensor

Kept = tuple[dict[str, Tensor], dict[str, Any]]


class Keeper(Protocol):
    """What a runner implements to let methods go on where they were interrupted."""

    def kept(self, name: str) -> Kept | None:
        """See ``kept``; the runner's own account of notes and costs goes back to that moment too."""

    def due(self) -> bool:
        """See ``due``."""

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """See ``keep``."""

    def walk(self) -> int:
        """The number of the walk over the blocks that begins now, from 0."""


_keeper: ContextVar[Keeper | None] = ContextVar("prunebench_keeper", default=None)


@contextmanager
def keeping(keeper: Keeper) -> Iterator[None]:
    """Hand what is kept inside this context to ``keeper``."""
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)


def kept(name: str) -> Kept | None:
    """What an interrupted run left under a name: tensors on the CPU, and facts; None at a first attempt.

    Args:
        name: as it was given to ``keep``.
    """
    keeper = _keeper.get()
    return None if keeper is None else keeper.kept(name)


def due() -> bool:
    """Whether it is time to keep something: a while has passed since the last time, or the run is to stop."""
    keeper = _keeper.get()
    return keeper is not None and keeper.due()


def keep(name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    """Save a state from which a run can go on, bit for bit, in place of what was kept under the same name.

    May end the run, by an exception that no ``except Exception`` holds up.

    Args:
        name: one that the method uses for nothing else in the cell.
        tensors: on any device, of any dtype; copied.
        facts: plain JSON; floats come back exactly.
    """
    keeper = _keeper.get()
    if keeper is not None:
        keeper.keep(name, tensors, facts)


def walk_name() -> str:
    """What the blocks of the walk that begins now are kept under: a method may walk more than once."""
    keeper = _keeper.get()
    return f"walk {0 if keeper is None else keeper.walk()}"
