"""The command ``submit``: results that somebody contributes are verified."""

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.output import AsJson, print_json, print_message
from prunebench.errors import UsageError
from prunebench.text import counted, printable


def submit(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The results folder that is contributed.")],
    check: Annotated[bool, typer.Option("--check", help="Verify it; nothing is sent anywhere.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again from the saved weights, on text that is made now.")
    ] = False,
    text: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="With --fresh: measure on this text instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify results that somebody contributes: digests, figures against arrays, settings, zeros, versions, license.

    What is wrong is told in a line each. Nothing of the folder is executed. A contribution is sent as a pull request.
    Exit codes: 0 nothing is wrong; 1 something is; 2 the request was wrong.
    """
    if not check:
        raise UsageError("submit verifies, and sends nothing: give --check, then open a pull request with the folder")
    if text is not None and not fresh:
        raise UsageError(f"--text {text} is for --fresh: give both, or neither")
    from prunebench.quiet import quiet_libraries

    with quiet_libraries():
        from prunebench.submission import check_submission

        found = check_submission(folder, fresh=fresh, text=text, tell=print_message)
    if as_json:
        findings = [{"where": finding.where, "what": finding.what} for finding in found.findings]
        print_json({"records": len(found.records), "measured": found.measured, "findings": findings})
    else:
        for finding in found.findings:
            typer.echo(printable(finding))
    again = f", {counted(found.measured, 'cell')} measured again" if fresh else ""
    wrong = counted(len(found.findings), "finding") if found.findings else "nothing is wrong"
    print_message(f"{counted(len(found.records), 'record')} checked{again}: {wrong}")
    if found.findings:
        raise typer.Exit(1)
