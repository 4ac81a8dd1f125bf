"""The commands ``baseline accept`` and ``trend``: what a regression gate is held against, and how it came there."""

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.output import AsJson, print_json, print_message, print_tables

app = typer.Typer(name="baseline", help="Keep the baseline of the regression gate.", no_args_is_help=True)


@app.callback()
def _baseline() -> None:
    """A group of its own, though it has one command: ``prunebench baseline accept``."""


@app.command("accept", short_help="Make results the new baseline of compare.")
def accept(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="The results folder to accept.")],
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="The folder that compare gets as BASE.")],
    as_json: AsJson = False,
) -> None:
    """Make the records of a results folder the new baseline of compare, and say what changed.

    A folder with failed cells is refused, and one that was measured by other protocols than the old baseline. Saved
    models are not copied; a README in BASELINE stays.
    """
    from prunebench.records.store import read_records
    from prunebench.report.compare.accept import accept_baseline, accepted_line
    from prunebench.report.compare.formats import comparison_tables, comparison_to_json

    comparison = accept_baseline(results, baseline)
    cells = len(read_records(baseline))
    if as_json:
        print_json({"cells": cells, "changes": None if comparison is None else comparison_to_json(comparison)})
        return
    if comparison is not None:
        changed = ("Regressions", "Improvements", "On one side only")
        print_tables([table for table in comparison_tables(comparison) if table.caption in changed])
    print_message(accepted_line(comparison, results, baseline, cells))
