"""The command line, called in this process."""

from typer.testing import CliRunner, Result

from prunebench.cli.app import app


def prunebench(*words: object) -> Result:
    """Run a command.

    Returns:
        Its exit code, standard output and standard error.
    """
    return CliRunner().invoke(app, [str(word) for word in words])


def one_line(result: Result) -> str:
    """The error, which is all that was said; but for the outline of a suite that could be read."""
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    said = lines[1:] if len(lines) > 1 and lines[0].startswith("suite ") else lines
    assert len(said) == 1
    assert "Traceback" not in result.stderr
    return said[0].strip()
