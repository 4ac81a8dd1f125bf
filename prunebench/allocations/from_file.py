"""Ratios that somebody worked out elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import yaml
from torch import nn

from prunebench.allocations.budget import apportion, budget_of, check_names, sizes_of
from prunebench.errors import AllocationError
from prunebench.pruning import CalibrationData, Pattern, Unstructured
from prunebench.yaml12 import error_line, read_yaml_file

TOLERANCE = 1e-3


@dataclass(frozen=True)
class FromFile:
    """The ratios that a file names, scaled by one factor so that the budget is met to the weight.

    They may miss it by a thousandth of all prunable weights, not more.

    Args:
        layers: layer name → fraction of zeros; a layer that is not named gets the ratio asked for on the whole.
    """

    layers: dict[str, float]
    revision: ClassVar[int] = 1
    needs: ClassVar[Literal["shapes"]] = "shapes"

    def __call__(self, model: nn.Module, data: CalibrationData, pattern: Unstructured) -> Mapping[str, Pattern]:
        """Check the names and the sum."""
        sizes = sizes_of(model)
        check_names(self.layers, sizes)
        shares = {name: self.layers.get(name, pattern.ratio) * size for name, size in sizes.items()}
        total, budget, weights = math.fsum(shares.values()), budget_of(sizes, pattern), sum(sizes.values())
        if abs(total - budget) > TOLERANCE * weights:
            raise AllocationError(
                f"the allocation's ratios give {total / weights:.4f} of the prunable weights where {pattern} is asked "
                f"for: change them so that both agree to {TOLERANCE}, or ask for that sparsity"
            )
        scale = budget / total if total else 0.0
        return apportion({name: share * scale for name, share in shares.items()}, sizes, budget)


def read_ratios(path: Path) -> dict[str, float]:
    """Read an allocation file: YAML or JSON, a mapping of layer names to fractions of zeros.

    Raises:
        AllocationError: it cannot be read, or is no such mapping.
    """
    try:
        content = read_yaml_file(path)
    except OSError as error:
        raise AllocationError(f"cannot read the allocation file {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise AllocationError(f"the allocation file {path} is no text in UTF-8: {error.reason}") from None
    except yaml.YAMLError as error:
        raise AllocationError(f"the allocation file {path} is no YAML or JSON: {error_line(error)}") from None
    if not isinstance(content, dict) or not content:
        raise AllocationError(f"the allocation file {path} must map names of layers to fractions of zeros")
    for name, ratio in content.items():
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < 1:
            raise AllocationError(
                f"the allocation file {path} gives {name} {ratio!r}, which is no fraction of zeros in [0, 1), as 0.9"
            )
    return {name: float(ratio) for name, ratio in content.items()}
