"""Every matrix alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from prunebench.pruning import CalibrationData, Pattern


@dataclass(frozen=True)
class Uniform:
    """Each matrix by itself to its exact count; the only allocation that there is for n:m."""

    revision: ClassVar[int] = 1
    needs: ClassVar[Literal["nothing"]] = "nothing"

    def __call__(self, model: nn.Module, data: CalibrationData, pattern: Pattern) -> Mapping[str, Pattern]:
        """No layer has a pattern of its own."""
        return {}
