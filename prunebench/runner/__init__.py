"""Sweeps: cells in, records out, each cell in a process of its own, resumable at any moment.

``sweep`` has the cells of a suite run that have no record, ``engines`` hand them to workers, ``run_cell`` is one cell
in its stages, ``prune_stage`` and ``measure_stage``. ``isolated``, ``stage_processes`` and ``processes`` run these in
fresh processes; ``in_process`` runs them in this one. ``claims`` shares a results folder among workers, ``saved_state``
and ``resume`` let an interrupted cell go on, and ``forecast`` tells beforehand what cells will cost.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.runner.forecast import forecast_cells
    from prunebench.runner.in_process import InProcess, run_cell
    from prunebench.runner.isolated import Isolated
    from prunebench.runner.resources import Resources
    from prunebench.runner.run_cell import Limits
    from prunebench.runner.sweep import run_suite

__all__ = ["InProcess", "Isolated", "Limits", "Resources", "forecast_cells", "run_cell", "run_suite"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "forecast": "forecast_cells",
        "in_process": "InProcess run_cell",
        "isolated": "Isolated",
        "resources": "Resources",
        "run_cell": "Limits",
        "sweep": "run_suite",
    },
)
