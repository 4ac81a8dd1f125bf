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
    """The error, which is all that was said."""
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr.strip()
