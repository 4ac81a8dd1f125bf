"""Trials of options: run as any other cells are, in a folder of their own inside the suite's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunebench.records.record import TRIALS_FOLDER
from prunebench.records.store import refuse_irregular
from prunebench.runner.events import SweepDisplay
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell


def run_trials(trials: Sequence[Cell], folder: Path, display: SweepDisplay, **options: Any) -> None:
    """Run every trial whose record is not there, and write its record into the folder of trials.

    Args:
        trials: what to run, in this order.
        folder: of the suite's own records.
        display, options: as in ``run_suite``.

    Raises:
        OutputError, UsageError: as in ``run_suite``.
    """
    refuse_irregular(folder, [TRIALS_FOLDER])
    run_suite(trials, folder / TRIALS_FOLDER, display, **options)
