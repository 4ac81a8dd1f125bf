"""The worker: a process that runs cells for ``runner.isolated``, so that one that crashes takes nobody along.

It reads a JSON object a line from its standard input: ``{"prepare": [cells], "output": folder, "save_models": bool,
"threads": n, "every": seconds}``, then ``{"run": cell, "output": folder, "save_models": bool}`` for each cell. It
answers with events, a JSON array a line, on what was its standard output: what a ``Display`` hears, and at the end of
each request ``done`` or ``refused``. Whatever libraries and plugins print goes to standard error. It ends when its
input does, as it does when its parent dies.
"""

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from prunebench.quiet import quiet_libraries


def _gone() -> NoReturn:
    """End at once, with all that was started here: nobody is left to work for, and every write is atomic."""
    if os.getsid(0) == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


class Teller:
    """A ``Display`` that sends on what it hears.

    Args:
        stream: takes a line for each event.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def tell(self, event: str, *content: Any) -> None:
        """Send an event with its arguments; what is not JSON is sent as text."""
        try:
            self._stream.write(json.dumps([event, *content], default=str) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            _gone()

    def start(self, cells: int, kept: int) -> None:
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
        self.tell("note", what, where)

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Send it on."""
        self.tell("trace", step, values)


def _requests() -> "queue.Queue[dict[str, Any]]":
    """What comes in; the process ends where the input does, whatever it is doing."""
    coming: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            coming.put(json.loads(line))
        _gone()

    threading.Thread(target=read, name="requests", daemon=True).start()
    return coming


def _end_softly(stop: threading.Event, busy: threading.Event) -> None:
    """Let SIGTERM end the cell in hand where its progress is saved next, and an idle worker at once."""

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()
        if not busy.is_set():
            os._exit(0)

    signal.signal(signal.SIGTERM, end)


def main() -> None:
    """Work until there is no more to do."""
    faulthandler.enable(all_threads=False)
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    stop, busy = threading.Event(), threading.Event()
    _end_softly(stop, busy)
    coming = _requests()
    teller = Teller(events)
    with quiet_libraries():
        import torch

        from prunebench.errors import PrunebenchError
        from prunebench.runner.run_cell import InProcess
        from prunebench.runner.saved_state import Stopped
        from prunebench.suite.cell import Cell

        here = InProcess(stop=stop)

        def prepare(request: dict[str, Any]) -> None:
            torch.set_num_threads(request["threads"])
            here.every = request["every"]
            cells = [Cell.model_validate(cell) for cell in request["prepare"]]
            here.prepare(cells, Path(request["output"]), save_models=request["save_models"])

        def run(request: dict[str, Any]) -> None:
            cell = Cell.model_validate(request["run"])
            busy.set()
            here.run(cell, Path(request["output"]), teller, save_models=request["save_models"])

        while True:
            request = coming.get()
            try:
                (run if "run" in request else prepare)(request)
            except PrunebenchError as error:
                teller.tell("refused", type(error).__name__, str(error))
            except Stopped:
                return
            else:
                teller.tell("done")
            busy.clear()


if __name__ == "__main__":
    main()
