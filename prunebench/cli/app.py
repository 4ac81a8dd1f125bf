"""The command line program: all commands joined, and errors turned into messages and exit codes."""

import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prunebench.cli import history, plugins
from prunebench.cli.examples import examples_of
from prunebench.cli.methods import methods
from prunebench.cli.output import print_message
from prunebench.cli.plan import plan
from prunebench.cli.reproduce import reproduce
from prunebench.cli.results import compare, merge, report
from prunebench.cli.run import run
from prunebench.cli.score import score
from prunebench.cli.signals import signal_exit_code, signal_name
from prunebench.cli.site import site
from prunebench.cli.submit import submit
from prunebench.errors import PrunebenchError, UsageError
from prunebench.files import describe_os_error, is_disk_error


class _CommandGroup(TyperGroup):
    """Reports every expected error as one line on stderr, with its own exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # now, while a full disk can still be reported
            return result
        except PrunebenchError as error:
            print_message(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            raise typer.Exit(_report_disk_error(error)) from None
        except KeyboardInterrupt as interrupt:
            print_message(signal_name(interrupt))
            raise typer.Exit(signal_exit_code(interrupt)) from None


def _report_disk_error(error: OSError) -> int:
    """Report that output cannot be written and return the exit code; re-raises any other ``OSError``."""
    if not is_disk_error(error):
        raise error
    print_message(f"error: cannot write what was asked for: {describe_os_error(error)}")
    with suppress(OSError):  # Python would try to write what is buffered again at exit
        sys.stdout.close()
    return UsageError.exit_code


app = typer.Typer(
    name="prunebench",
    cls=_CommandGroup,
    help="Compare methods for making large language models sparse, on one footing.",
    epilog="Exit codes: 0 all is well; 1 a cell failed, the others are kept; 2 the request was wrong, nothing ran.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(plugins.app)
app.add_typer(history.app)
for name, command, summary in (
    ("run", run, "Run a suite and print its tables."),
    ("plan", plan, "Show a suite's cells, and what they will cost."),
    ("report", report, "Print the tables of a results folder, or plot it."),
    ("compare", compare, "Compare two results folders; a regression gate."),
    ("merge", merge, "Join results folders in one."),
    ("site", site, "Write a leaderboard over results folders."),
    ("trend", history.trend, "Follow a measure over commits and find its steps."),
    ("reproduce", reproduce, "Run a paper's experiment and compare its figures."),
    ("score", score, "Measure a checkpoint that any tool has pruned."),
    ("submit", submit, "Verify results that somebody contributes."),
    ("methods", methods, "List the installed methods, or the options of one."),
):
    app.command(name, short_help=summary, epilog=examples_of(name))(command)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"prunebench {version('prunebench')}")
        raise typer.Exit


@app.callback()
def _prunebench(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that the terminal lacks is replaced
            stream.reconfigure(errors="replace")


def main() -> None:
    """Entry point of the command ``prunebench``."""
    try:
        app()
    except OSError as error:  # help is written before any command is invoked
        sys.exit(_report_disk_error(error))
