"""Exceptions that are reported to the user as one line, and helpers for their messages.

Each class carries the exit code of the command that raises it. A message is one line: what was wrong, its value, the
valid values, what to do next.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PrunebenchError(Exception):
    """Base of every error that is reported as one line and never as a traceback."""

    exit_code = 1


class UsageError(PrunebenchError):
    """The request was wrong; nothing ran."""

    exit_code = 2


class SuiteError(UsageError):
    """A suite file that cannot be read as one."""


class MethodError(UsageError):
    """A method that is not installed, failed to import, or was given options it does not have."""


class UnknownMethodError(MethodError):
    """A method name that no plugin has registered."""


class ModelError(UsageError):
    """A model that cannot be found or loaded."""


class CorpusError(UsageError):
    """A corpus that is missing, empty or too short."""


class AllocationError(UsageError):
    """An allocation that does not exist, or does not fit its model or its sparsity."""


class EngineError(UsageError):
    """An engine that is not installed, cannot be reached, or fails."""


class TaskError(UsageError):
    """A zero-shot task that lm-eval does not know."""


class DeviceError(UsageError):
    """A device that this machine does not have."""


class OutputError(UsageError):
    """A results folder that cannot be written or read."""


class RecordError(OutputError):
    """A file that is not a valid record, file of arrays or file of forecasts.

    Args:
        reason: which file it is, and what is wrong with it.
        advice: what the user can do.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason = reason


class ContractError(PrunebenchError):
    """A method that returned without keeping the contract of ``prunebench.hookspecs``; fails its cell."""


def quoted(value: object, limit: int = 80) -> str:
    """The ``repr`` of a value for a message, truncated to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its type where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def suggest(word: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar valid one, then all valid ones.

    Args:
        word: the unknown name.
        choices: the valid ones.
    """
    known = sorted(choices)
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(known) if known else 'none'}"
