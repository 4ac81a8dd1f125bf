"""One attempt of a method at a cell: what it keeps goes to disk with all that belongs to the same moment."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from prunebench.partial import Partial
from prunebench.pruning.progress import note
from prunebench.pruning.resume import Kept

PRUNE = "prune"


class Carried(Protocol):
    """What changes while a method runs, besides its own state: what was noted, how many tokens were taken …"""

    def state(self) -> Any:
        """It now, as JSON."""

    def restore(self, state: Any) -> None:
        """Make it what it was."""


class Clock:
    """Seconds since it was made, and those of earlier attempts up to what they kept."""

    def __init__(self) -> None:
        self._began, self._before = time.perf_counter(), 0.0

    def state(self) -> float:
        """All seconds."""
        return self._before + time.perf_counter() - self._began

    def restore(self, state: float) -> None:
        """Add those of an earlier attempt."""
        self._before = max(self._before, state)


class Attempt:
    """The keeper of a method in a cell; see ``prunebench.pruning.resume.Keeper``.

    Args:
        partial: where it is kept.
        carried: goes back to the same moment as the method.
    """

    def __init__(self, partial: Partial, carried: Sequence[Carried]) -> None:
        self._partial, self._carried = partial, carried
        self._walks = 0

    def kept(self, name: str) -> Kept | None:
        """What was kept under the name; all that is carried becomes what it was then."""
        found = self._partial.kept(f"{PRUNE}/{name}")
        if found is None:
            return None
        tensors, content = found
        for thing, state in zip(self._carried, content["carried"], strict=True):
            thing.restore(state)
        return tensors, content["facts"]

    def due(self) -> bool:
        """Whether a save is due."""
        return self._partial.due()

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Save both; a method runs on without, where the disk is full."""
        carried = [thing.state() for thing in self._carried]
        if not self._partial.keep(f"{PRUNE}/{name}", tensors, {"facts": facts, "carried": carried}):
            note("progress could not be kept: the results folder is full or cannot be written")

    def walk(self) -> int:
        """The number of this walk."""
        self._walks += 1
        return self._walks - 1
