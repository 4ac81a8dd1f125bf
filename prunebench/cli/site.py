"""The command ``site``: a leaderboard over results folders, as static files."""

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.output import print_message


def site(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Results folders, or folders that hold results folders.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the site; one that is there is replaced.")
    ] = Path("site"),
    title: Annotated[str, typer.Option(metavar="TEXT", help="The heading of the page.")] = "Leaderboard",
    reports: Annotated[
        bool, typer.Option("--reports", help="Write a report of each folder, too; takes some seconds for each.")
    ] = False,
) -> None:
    """Write a static site over results folders: a table for each text and task, which can be searched.

    It holds a copy of each record and the suite that runs its cell again, asks the network for nothing, and can be
    served by any server of files or opened from a disk.
    """
    from prunebench.report.site.gather import clashes, gather
    from prunebench.report.site.write import write_site

    sources = gather(folders, print_message)
    for line in clashes(sources):
        print_message(line)
    typer.echo(str(write_site(sources, output, title, reports=reports)))
