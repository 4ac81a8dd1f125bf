"""The program of a worker that another process starts, on this machine or another.

    python -m prunebench.runner.engines.worker

It reads lines of JSON: first the sweep (``Work.to_json``), then ``[cell id, whether it is a retry]`` for each cell that
it is to run. It writes events, a JSON array a line: ``["begin", cell]``, what the cell's display is told, as
``["phase", cell, name]``, and ``["done", cell]``; or ``["refused", error, message]``, and ends. When its input ends, so
does it: within seconds, what it was doing kept for the next attempt.
"""

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, TextIO

from prunebench.quiet import quiet_libraries


class Speaker:
    """Writes events."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def say(self, event: str, *content: Any) -> None:
        """Write one event; nobody may be there to read it."""
        with suppress(OSError, ValueError), self._lock:
            self._stream.write(json.dumps([event, *content], default=str) + "\n")
            self._stream.flush()


def main() -> None:
    """Run cells until the input ends."""
    speaker = Speaker(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what else is printed is no event
    signal.signal(signal.SIGTERM, _interrupt)
    work = sys.stdin.readline()
    if not work:
        return
    with suppress(KeyError, ValueError, OSError):
        os.chdir(Path(json.loads(work)["folder"]))  # which paths in task files count from
    with quiet_libraries():
        _run(work, speaker)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(text: str, speaker: Speaker) -> None:
    from prunebench.errors import PrunebenchError
    from prunebench.runner.engines.claimed import ClaimedCells
    from prunebench.runner.engines.interface import Work
    from prunebench.runner.engines.program import Told
    from prunebench.runner.isolated import Isolated
    from prunebench.runner.run_cell import Limits

    def begin(cell: str) -> Told:
        speaker.say("begin", cell)
        return Told(cell, speaker.say)

    asked = SimpleQueue[str]()
    try:
        with Isolated() as executor:
            executor.start()
            threading.Thread(target=_listen, args=[asked, executor], daemon=True).start()

            def configured(limits: Limits, every: float) -> Isolated:
                executor.limits, executor.every = limits, every
                return executor

            work = Work.from_json(text, configured, begin=begin)
            executor.prepare(list(work.cells.values()), work.output, save_models=work.save_models)
            cells = ClaimedCells(work)
            while line := asked.get():
                name, retry = json.loads(line)
                cells.run(name, retry=retry)
                speaker.say("done", name)
            work.claims.close()
    except PrunebenchError as error:
        speaker.say("refused", type(error).__name__, str(error))
    except KeyboardInterrupt:
        pass


def _listen(asked: "SimpleQueue[str]", executor: Any) -> None:
    """Pass on what is asked; at the end of the input what runs is to end."""
    for line in sys.stdin:
        asked.put(line)
    executor.stop()
    asked.put("")


if __name__ == "__main__":
    main()
