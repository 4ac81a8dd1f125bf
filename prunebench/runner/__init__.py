"""Sweeps: cells in, records out, each cell in a process of its own, resumable at any moment.

``sweep`` runs the cells of a suite that have no record, ``isolated`` and ``processes`` prune and measure each in fresh
processes, ``run_cell`` is one cell in its stages, ``claims`` shares a results folder among runners, ``saved_state`` and
``resume`` let an interrupted cell go on, and ``forecast`` tells beforehand what cells will cost.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.runner.forecast import forecast_cells
    from prunebench.runner.isolated import Isolated
    from prunebench.runner.resources import Resources
    from prunebench.runner.run_cell import InProcess, Limits, run_cell
    from prunebench.runner.sweep import run_suite

__all__ = ["InProcess", "Isolated", "Limits", "Resources", "forecast_cells", "run_cell", "run_suite"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "forecast": "forecast_cells",
        "isolated": "Isolated",
        "resources": "Resources",
        "run_cell": "InProcess Limits run_cell",
        "sweep": "run_suite",
    },
)
