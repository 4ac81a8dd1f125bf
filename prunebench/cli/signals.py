"""Orderly ending on Ctrl-C and on the signals of a scheduler or a closed terminal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the program to end; handled like Ctrl-C.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def signal_exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code after an interrupt, as shells define it: 128 plus the signal's number."""
    return 128 + (interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT)


def signal_name(interrupt: KeyboardInterrupt) -> str:
    """The interrupt in a word or two, for a message."""
    return f"ended by {signal.Signals(interrupt.number).name}" if isinstance(interrupt, Terminated) else "interrupted"


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise in the main thread on Ctrl-C, SIGTERM and SIGHUP, and have that exception reach the end of the context.

    Compiled code in which it is raised may make another of it, say an ``ImportError``; here that is undone. A second
    SIGTERM or SIGHUP ends the process at once.

    Raises:
        KeyboardInterrupt: on Ctrl-C; ``Terminated`` on the others.
    """
    raised: list[KeyboardInterrupt] = []

    def end(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        raised.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))
        raise raised[-1]

    previous = {}
    try:
        for name in ENDING_SIGNALS:
            # A signal that is ignored stays ignored, as nohup wants it.
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
                previous[name] = signal.signal(getattr(signal, name), end)
    except ValueError:  # not in the main thread, which alone may set handlers
        pass
    try:
        yield
    except Exception as error:
        if raised:
            raise raised[-1] from error
        raise
    finally:
        for name, handler in previous.items():
            signal.signal(getattr(signal, name), handler)
