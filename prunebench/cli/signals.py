"""What asks the program to end: Ctrl-C, and the signals of whoever preempts it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = ("SIGTERM", "SIGHUP")


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the program to end; it ends in the same way.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code_of(stop: KeyboardInterrupt) -> int:
    """As shells count: 128 and the signal's number."""
    return 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)


def name_of(stop: KeyboardInterrupt) -> str:
    """What happened, in a word or two."""
    return f"ended by {signal.Signals(stop.number).name}" if isinstance(stop, Terminated) else "interrupted"


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise ``Terminated`` in the main thread when a signal asks the program to end; a second one ends it at once."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated(number)

    before = {}
    try:
        for name in ENDING:
            # One that is ignored stays so: nohup means it.
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
                before[name] = signal.signal(getattr(signal, name), end)
    except ValueError:  # not in the main thread, where signals are somebody else's business
        pass
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
