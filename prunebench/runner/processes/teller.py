"""What a process that runs a stage says to the runner."""

import os
import threading
from collections.abc import Callable
from typing import Any

from prunebench.errors import PrunebenchError
from prunebench.runner.processes.messages import encode
from prunebench.tracebacks import describe_error


class Teller:
    """A ``Display`` that sends on what it hears.

    Args:
        descriptor: takes a line for each event.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def tell(self, event: str, *content: Any) -> None:
        """Send an event with its content; the process ends where nobody listens any more."""
        line = encode(event, *content)
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                os._exit(0)

    def start(self, cells: int, existing: int) -> None:
        """Told by the parent itself."""

    def begin(self, number: int, cell: Any) -> None:
        """Told by the parent itself."""

    def end(self, record: Any, seconds: float) -> None:
        """Told by the parent itself."""

    def phase(self, name: str) -> None:
        """Send it on."""
        self.tell("phase", name)

    def step(self, label: str, done: int, total: int | None) -> None:
        """Send it on."""
        self.tell("step", label, done, total)

    def note(self, what: str, where: dict[str, object]) -> None:
        """Send it on."""
        self.tell("note", what, {str(name): str(value)[:200] for name, value in list(where.items())[:20]})

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Send it on."""
        self.tell("trace", step, values)


def tell_answer(what: Callable[[], dict[str, Any]], teller: Teller) -> None:
    """Send what was asked for, or the error that stands in its place."""
    try:
        teller.tell("read", what())
    except PrunebenchError as error:
        teller.tell("refused", type(error).__name__, str(error))
    except SystemExit as error:
        teller.tell("refused", "MethodError", f"a plugin called sys.exit({error.code!r}) while it was read")
    except BaseException as error:  # a plugin may raise anything
        teller.tell("refused", "MethodError", f"a plugin failed while it was read: {describe_error(error)}")
