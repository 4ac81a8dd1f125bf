"""Going on after an interruption: what a method leaves along its way, to whoever keeps it.

A method need not do anything for this: ``calibrated`` keeps each block that is pruned. One that runs for long by
itself asks at the top of its loop whether it is ``due`` to ``keep`` its state, and before the loop for what an earlier
attempt has ``kept``. Nobody has to keep anything: then all three do nothing.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prunebench.pruning.callbacks import Kept, audience


def kept(name: str) -> Kept | None:
    """What an interrupted run left under a name: tensors on the CPU, and facts; None at a first attempt.

    Args:
        name: as it was given to ``keep``.
    """
    keeper = audience().keeper
    return None if keeper is None else keeper.kept(name)


def due() -> bool:
    """Whether it is time to keep something: a while has passed since the last time, or the run is to stop."""
    keeper = audience().keeper
    return keeper is not None and keeper.due()


def keep(name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    """Save a state from which a run can go on, bit for bit, in place of what was kept under the same name.

    May end the run, by an exception that no ``except Exception`` holds up.

    Args:
        name: one that the method uses for nothing else in the cell.
        tensors: on any device, of any dtype; copied.
        facts: plain JSON; floats come back exactly.
    """
    keeper = audience().keeper
    if keeper is not None:
        keeper.keep(name, tensors, facts)


def walk_name() -> str:
    """What the blocks of the walk that begins now are kept under: a method may walk more than once."""
    keeper = audience().keeper
    return f"walk {0 if keeper is None else keeper.walk()}"
