"""The model as it is: what every other method is held against."""

from dataclasses import dataclass
from typing import ClassVar

from prunebench import hookimpl


@dataclass(frozen=True)
class Dense:
    """No pruning; measured once for each model."""

    revision: ClassVar[int] = 1
    changes: ClassVar[str] = "nothing"

    @hookimpl
    def prune(self) -> None:
        """Leave the model as it is."""
