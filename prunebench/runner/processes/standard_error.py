"""What processes write to standard error: passed on, made printable and bounded."""

import sys
from collections import deque
from contextlib import suppress

from prunebench.runner.processes.messages import Lines
from prunebench.text import printable

TAIL, LONGEST, SHOWN = 20, 2000, 1 << 20  # lines kept of standard error, characters of each, bytes passed on in all


class Errors:
    """What processes write to standard error: passed on, made printable and bounded, the last lines kept.

    Args:
        descriptor: where it arrives.
    """

    def __init__(self, descriptor: int) -> None:
        self._lines, self._passed = Lines(descriptor, 1 << 62), 0
        self.descriptor = descriptor
        self.said: deque[str] = deque(maxlen=TAIL)

    @property
    def ended(self) -> bool:
        """Whether nobody can write any more."""
        return self._lines.ended

    def read(self) -> None:
        """Take what is there."""
        for line in self._lines.read():
            self._take(line)
        if len(self._lines.rest) > LONGEST * 4:
            self._take(self._lines.drop())

    def _take(self, line: bytes) -> None:
        text = printable(line[: LONGEST * 4].decode("utf-8", "replace"))[:LONGEST]
        if text.startswith("Extension modules:"):  # a screenful that faulthandler adds
            return
        self.said.append(text)
        if self._passed <= SHOWN:
            self._passed += len(text) + 1
            if self._passed > SHOWN:
                text = "… further output is not shown"
            with suppress(OSError, ValueError):  # nobody may be left to read it
                sys.stderr.write(text + "\n")

    def close(self) -> None:
        """Take the rest, and close."""
        self.read()
        if self._lines.rest:
            self._take(self._lines.drop())
        self._lines.close()
