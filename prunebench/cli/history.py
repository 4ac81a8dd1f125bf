"""The commands ``baseline accept`` and ``trend``: what a regression gate is held against, and how it came there."""

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.examples import examples_of
from prunebench.cli.output import AsJson, print_json, print_message, print_tables

app = typer.Typer(name="baseline", help="Keep the baseline of the regression gate.", no_args_is_help=True)


@app.callback()
def _baseline() -> None:
    """A group of its own, though it has one command: ``prunebench baseline accept``."""


@app.command("accept", short_help="Make results the new baseline of compare.", epilog=examples_of("baseline accept"))
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


def trend(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Results folders, one for each commit.")],
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="perplexity, accuracy, time or memory.")
    ] = "perplexity",
    of: Annotated[
        str | None, typer.Option("--of", metavar="NAME", help="Only this protocol or task.  [default: all]")
    ] = None,
    smallest: Annotated[
        float,
        typer.Option("--smallest", min=0, metavar="PERCENT", help="The smallest step that is told."),
    ] = 1.0,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="DIRs are in their order; else they are sorted by the time they ran.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="A folder that gets a plot for each text.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow a measure over commits and say at which of them it changed beyond noise.

    The noise comes from the records: the spread between seeds, or with one seed the standard errors, and for times and
    memory the differences of neighbouring commits, of which there must be eight. In a history without a step, one is
    told with a probability of 0.001.
    """
    from prunebench.errors import UsageError, suggest
    from prunebench.report.trend.series import Metric, left_out, read_commits, trends
    from prunebench.report.trend.shown import trend_json, trend_tables
    from prunebench.text import counted

    if metric not in list(Metric):
        raise UsageError(f"unknown metric {metric!r}: {suggest(metric, map(str, Metric))}")
    commits = read_commits(folders, in_order=in_order, leave_out=print_message)
    known = trends(commits, Metric(metric), smallest / 100)
    failed = left_out(commits)
    told = f"; {counted(len(failed), 'cell')} failed, the first with {failed[0].error}" if failed else ""
    if not known:
        raise UsageError(f"no cell has a {metric} in two of the {len(commits)} folders: nothing to follow{told}")
    found = [trend for trend in known if of is None or trend.of == of]
    if not found:
        raise UsageError(f"nothing was measured of {of!r}: {suggest(of or '', {trend.of for trend in known})}")
    if output is not None:
        from prunebench.report.output.files import write_file
        from prunebench.report.plots.matplotlib_svg import to_file
        from prunebench.report.trend.shown import trend_plots

        for plot in trend_plots(found, commits):
            print_message(str(write_file(output / f"{plot.name}.svg", to_file(plot, "svg"))))
    if not as_json:
        print_tables(trend_tables(found, failed))
        return
    if failed:
        print_message(f"{counted(len(failed), 'failed cell')} left out; those of a series stand under its key 'failed'")
    print_json(trend_json(found))
