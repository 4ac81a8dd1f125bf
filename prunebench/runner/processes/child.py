"""A process that runs one stage, as the runner sees it: heard to its end, watched, and ended if it must be."""

import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import psutil

from prunebench import errors
from prunebench.errors import OutputError, PrunebenchError
from prunebench.runner.processes.messages import MALFORMED, Lines, Malformed, decode
from prunebench.runner.processes.standard_error import Errors

TICK, LOOK, GRACE = 0.2, 0.5, 5.0  # seconds

Hear = Callable[[str, Any], None]
"""Takes the name and the content of an event."""
Watch = Callable[[int], None]
"""Is told now and then how many bytes a process occupies; what it raises ends that process."""


class Forker(Protocol):
    """The template that a child was forked from: ``prunebench.runner.processes.parent.Template``."""

    errors: Errors

    @property
    def descriptors(self) -> list[int]:
        """Where something of it may arrive."""

    def messages(self) -> list[tuple[str, Any]]:
        """What it said since it was last asked."""

    def signal(self, number: int) -> None:
        """Send a signal to the child, if there still is one."""

    def check(self) -> None:
        """Raise ``Died`` if it has."""

    def end_marked(self) -> None:
        """Kill all that came from it."""


class Died(Exception):  # noqa: N818 - no error of ours
    """A process is gone, or was made to go.

    Args:
        kind: what a record calls it.
        why: half a line.
        signal: the signal that ended it.
    """

    def __init__(self, kind: str, why: str, signal: str | None = None) -> None:
        super().__init__(why)
        self.kind, self.signal = kind, signal


def death_of(code: int) -> Died:
    """How a process ended that said nothing of it.

    Args:
        code: its exit status, negative for a signal.
    """
    if code >= 0:
        return Died("WorkerEnded", f"the process ended with exit status {code}")
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return Died("WorkerKilled", f"the process was killed by {name}{hint}", name)


def resident(pid: int, *, alone: bool = False) -> int:
    """Bytes of memory that a process and its descendants occupy, or it ``alone``."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *(() if alone else process.children(recursive=True))):
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total


class Child:
    """A process that runs one stage of one cell.

    Args:
        template: that forked it.
        pid: its process id.
        events: what it says.
        errors: its standard error.
    """

    def __init__(self, template: Forker, pid: int, events: Lines, errors: Errors) -> None:
        self._template, self.pid, self._events, self.errors = template, pid, events, errors
        self._code: int | None = None
        self.peak_bytes = self.orphans = 0

    def attend(self, hear: Hear, last: set[str], watch: Watch) -> tuple[str, Any]:
        """Hear it to its end.

        Args:
            hear: takes each event.
            last: the names of the events of which one ends it.
            watch: called now and then; what it raises ends the child.

        Returns:
            The last event. The process is gone, and all that it left running.

        Raises:
            Died: it ended without a last event, or said what it may not.
        """
        result: tuple[str, Any] | None = None
        looked, since, gone, asked_to_end = time.monotonic(), 0.0, False, False
        try:
            while self._code is None:
                select.select(self._descriptors, [], [], TICK)
                result = self._hear(hear, last, result)
                self._see()
                now = time.monotonic()
                over = result is not None or gone
                since = (since or now) if over else 0.0
                if over and now - since > GRACE:  # it has no more to do, or its template does not tell of its end
                    if asked_to_end:
                        raise Died("WorkerEnded", "the process ended, and its template does not answer")
                    self._template.signal(signal.SIGKILL)
                    since, asked_to_end = now, True
                if now - looked >= LOOK:
                    looked, gone = now, not self._runs
                    self.peak_bytes = max(self.peak_bytes, found := resident(self.pid))
                    watch(found)
            result = self._hear(hear, last, result)
        except Malformed as error:
            raise Died(MALFORMED, f"the process sent {error}") from None
        except KeyboardInterrupt:
            self._stop()
            raise
        finally:
            self.kill()
            self._events.close()
            self.errors.close()
        if result is None:
            raise death_of(self._code)
        return result

    @property
    def _descriptors(self) -> list[int]:
        mine = [stream.descriptor for stream in (self._events, self.errors) if not stream.ended]
        return [*mine, *self._template.descriptors]

    def _hear(self, hear: Hear, last: set[str], result: tuple[str, Any] | None) -> tuple[str, Any] | None:
        self.errors.read()
        for line in self._events.read():
            event = decode(line)
            if result is not None:
                raise Malformed("more after its last message")
            if event[0] in last:
                result = event
            else:
                hear(*event)
        return result

    def _see(self) -> None:
        """See whether the template tells of its end."""
        self._template.errors.read()
        for name, content in self._template.messages():
            if name == "exited" and content[0] == self.pid:
                _, self._code, peak, self.orphans = content
                self.peak_bytes = max(self.peak_bytes, peak)
        if self._code is None:
            self._template.check()

    @property
    def _runs(self) -> bool:
        """Whether the system still knows it as one that runs."""
        with suppress(psutil.Error):
            return psutil.Process(self.pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return False

    def _stop(self) -> None:
        """Let it keep what it has and end, which may take ``GRACE`` s."""
        self._template.signal(signal.SIGTERM)
        self._await_end()

    def kill(self) -> None:
        """End it, and all that it started, if it has not ended."""
        if self._code is not None:
            return
        self._template.signal(signal.SIGKILL)
        self._await_end()
        if self._code is None:  # the template is gone, or does not answer
            self._template.end_marked()

    def _await_end(self) -> None:
        until = time.monotonic() + GRACE
        with suppress(Died, Malformed):
            while self._code is None and time.monotonic() < until:
                select.select(self._descriptors, [], [], TICK)
                for _ in self._events.read():
                    pass
                self.errors.read()
                self._see()


def raise_refusal(kind: str, message: str) -> None:
    """Raise the error of ours that another process told of.

    Raises:
        PrunebenchError: always.
    """
    known = getattr(errors, kind, None)
    raise (known if isinstance(known, type) and issubclass(known, PrunebenchError) else OutputError)(message)
