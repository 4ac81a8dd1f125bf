"""What to tell of an exception that somebody's code raised: its message, the line of its author, its traceback."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

from prunebench.errors import PrunebenchError
from prunebench.text import printable

FRAMES = 60  # of a traceback, the innermost
LONGEST_MESSAGE = 4000  # characters
OWN = __name__.partition(".")[0]
CARRIERS = {OWN, "pluggy"}  # what calls plugins


def describe_error(error: BaseException) -> str:
    """The message of an exception in one line, with file and line of its author's own frame.

    Errors of prunebench, and those of Python's parser, say themselves what is wrong and where.
    """
    try:
        message = str(error)
    except Exception:  # whatever a foreign class does
        message = "its message cannot be shown"
    text = " ".join(message[:LONGEST_MESSAGE].split()) or "no message"
    if isinstance(error, PrunebenchError | SyntaxError):
        return text
    where = author_line(error)
    return f"{text} ({where[0].name}, line {where[1]})" if where else text


def author_line(error: BaseException) -> tuple[Path, int] | None:
    """File and line of the innermost frame that is the plugin author's own.

    The author is whose code prunebench called: of the frames after that call, those of the same package or, of a plugin
    file, of the same folder are the author's own. Where nobody's code was called, it is the innermost frame.

    Returns:
        None where the exception was never raised.
    """
    frames = [(frame, line) for frame, line in _frames(error.__traceback__) if _is_in_a_file(frame)]
    foreign = [_package_of(frame) not in CARRIERS for frame, _ in frames]
    first = foreign.index(False) if False in foreign else 0  # before it is whoever called prunebench
    called = next((frames[index][0] for index in range(first, len(frames)) if foreign[index]), None)
    own = [(Path(frame.f_code.co_filename), line) for frame, line in frames if called is None or _is_of(frame, called)]
    return own[-1] if own else None


def plain_traceback(error: BaseException) -> str:
    """The traceback of an exception as plain text: printable lines, and of many frames the innermost."""
    try:
        told = traceback.TracebackException.from_exception(error, limit=-FRAMES, compact=True)
        lines = [line for part in told.format() for line in part.splitlines()]
    except Exception:  # whatever a foreign class does
        return describe_error(error)
    return "\n".join(f"{line[: len(line) - len(line.lstrip())]}{printable(line[:LONGEST_MESSAGE])}" for line in lines)


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_in_a_file(frame: FrameType) -> bool:
    """Python's import system itself is in none, and is nobody's code."""
    return not frame.f_code.co_filename.startswith("<frozen ")


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_of(frame: FrameType, called: FrameType) -> bool:
    """Whether a frame is of the package that was called, or of a file beside a called one that is in no package."""
    if _package_of(frame) == _package_of(called):
        return True
    folder = Path(called.f_code.co_filename).parent
    return not called.f_globals.get("__package__") and Path(frame.f_code.co_filename).parent == folder
