"""What ``run`` and ``plan`` do with trials: find their records, and say what these chose."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.cli.output import print_message
from prunebench.cli.suite_options import existing_record

if TYPE_CHECKING:
    from prunebench.records.record import Record
    from prunebench.suite.cell import Cell
    from prunebench.suite.tuning import TunedPlan


def existing_trials(planned: "TunedPlan", folder: Path) -> "list[Record]":
    """The records of a suite's trials, those of failures included.

    Args:
        planned: the suite.
        folder: of the suite's records.
    """
    from prunebench.records.record import TRIALS_FOLDER

    found = (existing_record(folder / TRIALS_FOLDER, cell) for cell in planned.trials)
    return [record for record in found if record is not None]


def print_choices(cells: "Iterable[Cell]", trials: "Sequence[Record]") -> None:
    """Say which options the trials chose, and how many of them failed.

    Args:
        cells: of the suite, with what was chosen.
        trials: their records.
    """
    lines: dict[str, None] = {}
    for cell in cells:
        if (tuning := cell.tuning) is not None:
            options = ", ".join(f"{name}={value}" for name, value in tuning.options.items())
            whose = f" of {tuning.like}" if tuning.like else ""
            lines[
                f"{cell.model} {cell.method} {cell.sparsity}: {options}, the best of {tuning.trials} trials{whose} at "
                f"{tuning.sparsity}"
            ] = None
    for line in lines:
        print_message(line)
    if failed := sum(record.status == "failed" for record in trials):
        print_message(f"{failed} of {len(trials)} trials failed and were not chosen; the same command tries them again")
