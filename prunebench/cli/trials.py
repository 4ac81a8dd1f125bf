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


def awaiting(missing: int, planned: "TunedPlan", own: "Sequence[Cell]", shard: str | None) -> str:
    """What to do while trials have no record, from which the suite's own cells follow.

    Args:
        missing: how many have none.
        planned: the suite.
        own: the trials of this share of it.
        shard: which share this is; None is all.
    """
    if shard is None:
        return (
            f"{missing} of {len(planned.trials)} trials have no record yet; the suite's own cells follow from all: the "
            "same command goes on"
        )
    return (
        f"--shard {shard} holds {len(own)} of {len(planned.trials)} trials, {missing} of which have no record here; "
        "the suite's own cells follow from all: join them (prunebench merge A/trials B/trials --output DIR/trials), "
        "then run again with --output DIR"
    )


def print_choices(cells: "Iterable[Cell]", trials: "Sequence[Record]") -> None:
    """Say which options the trials chose, and how many of them failed.

    Args:
        cells: of the suite, with what was chosen.
        trials: their records.
    """
    from prunebench.suite.cell import sparsity_text

    lines: dict[str, None] = {}
    for cell in cells:
        if (tuning := cell.tuning) is not None:
            options = ", ".join(f"{name}={value}" for name, value in tuning.options.items())
            whose = f" of {tuning.like}" if tuning.like else ""
            lines[
                f"{cell.model} {cell.method} {sparsity_text(cell)}: {options}, the best of {tuning.trials} "
                f"trials{whose} at {tuning.sparsity}"
            ] = None
    for line in lines:
        print_message(line)
    if failed := sum(record.status == "failed" for record in trials):
        print_message(f"{failed} of {len(trials)} trials failed and were not chosen; the same command tries them again")
