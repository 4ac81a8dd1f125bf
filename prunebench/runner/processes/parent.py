"""The runner's side of its processes: it starts templates, hears their children, and ends what must end."""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import psutil

from prunebench import errors
from prunebench.errors import OutputError, PrunebenchError
from prunebench.runner.processes.messages import MALFORMED, Lines, Malformed, decode
from prunebench.text import printable

TICK, LOOK, GRACE = 0.2, 0.5, 5.0  # seconds
ROUNDS, MARK = 20, "PRUNEBENCH_SWEEP"
PATIENCE = 60.0  # seconds for a template that reads texts to take a request
WAY = "fork" if sys.platform == "linux" else "spawn"  # how children come to be
STAGES = "prunebench.runner.processes.stages"
TAIL, LONGEST, SHOWN = 20, 2000, 1 << 20  # lines kept of standard error, characters of each, bytes passed on in all


Hear = Callable[[str, Any], None]
"""Takes the name and the content of an event."""
Watch = Callable[[int], None]
"""Is told now and then how many bytes a process occupies; what it raises ends that process."""


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


class Template:
    """A template, and the one child that it may have at a time.

    Args:
        control: the socket on which it takes requests.
        process: it, where it was started here; None for one that another template forked.
        pid: its process id.
        errors: its standard error.
        mark: a word in the environment of all that come from it.
    """

    def __init__(
        self, control: socket.socket, pid: int, errors: Errors, mark: str, process: "subprocess.Popen[bytes] | None"
    ) -> None:
        self.control, self.pid, self.errors, self._mark, self._process = control, pid, errors, mark, process
        self._said, self._answered = Lines(os.dup(control.fileno())), False
        control.settimeout(PATIENCE)  # for what is sent; reading, by the other descriptor, does not wait

    @classmethod
    def start(cls, stages: str = STAGES, way: str = WAY) -> Self:
        """Start the first template.

        Args:
            stages: the module that says what its children do.
            way: "fork", or "spawn" where that is not safe; see ``template``.
        """
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        mark = secrets.token_hex(16)
        words = [sys.executable, "-P", "-m", "prunebench.runner.processes.template", str(theirs.fileno()), stages, way]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            pass_fds=[theirs.fileno()],
            env={**os.environ, MARK: mark},
            start_new_session=True,  # Ctrl-C is for the parent, which ends the others in its own time
        )
        theirs.close()
        os.close(write)
        return cls(ours, process.pid, Errors(read), mark, process)

    def fork_template(self, watch: Watch) -> "Template":
        """Another template, as this one is now."""
        ours, theirs = socket.socketpair()
        pid = self._fork({"do": "template"}, [theirs.fileno()], watch)
        theirs.close()
        return Template(ours, pid, self.errors, self._mark, None)

    def prepare(self, request: dict[str, Any], watch: Watch) -> None:
        """Have it read what its children need.

        Raises:
            UsageError: what does not fit.
            Died: it did.
        """
        self._send({"do": "prepare", **request})
        self._wait("done", watch)

    def fork(self, request: dict[str, Any], watch: Watch) -> "Child":
        """A child that runs one stage."""
        events, errors_ = os.pipe(), os.pipe()
        try:
            pid = self._fork({"do": "fork", **request}, [events[1], errors_[1]], watch)
        finally:
            os.close(events[1])
            os.close(errors_[1])
        return Child(self, pid, Lines(events[0]), Errors(errors_[0]))

    def ask(
        self, request: dict[str, Any], watch: Watch, tell: Callable[[str], None] = lambda _: None
    ) -> dict[str, Any]:
        """The answer of a child that is thrown away; what it notes meanwhile is told.

        Raises:
            Died: it did.
            UsageError: it refuses.
        """

        def hear(event: str, content: Any) -> None:
            if event == "note":
                tell(printable(content[0]))

        event, content = self.fork(request, watch).attend(hear, {"read", "refused"}, watch)
        if event == "refused":
            raise_refusal(*content)
        return dict(content[0])

    def _fork(self, request: dict[str, Any], descriptors: list[int], watch: Watch) -> int:
        self._send(request, descriptors)
        (pid,) = self._wait("forked", watch)
        return int(pid)

    def signal(self, number: int) -> None:
        """Send a signal to the child, if there still is one."""
        self._send({"do": "signal", "number": number})

    def _send(self, request: dict[str, Any], descriptors: list[int] | None = None) -> None:
        line = json.dumps(request).encode() + b"\n"
        with suppress(OSError):  # its death is seen when its answer is waited for
            if descriptors:
                sent = socket.send_fds(self.control, [line], descriptors)
                line = line[sent:]
            self.control.sendall(line)

    def messages(self) -> list[tuple[str, Any]]:
        """What it said since it was last asked."""
        return [decode(line) for line in self._said.read()]

    @property
    def descriptors(self) -> list[int]:
        """Where something of it may arrive."""
        said = [] if self._said.ended else [self._said.descriptor]
        return said if self.errors.ended else [*said, self.errors.descriptor]

    def _wait(self, wanted: str, watch: Watch) -> Any:
        looked = time.monotonic()
        while True:
            select.select(self.descriptors, [], [], TICK)
            self.errors.read()
            for name, content in self.messages():
                self._answered = True
                if name == wanted:
                    return content
                if name == "refused":
                    raise_refusal(*content)
            self.check()
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                watch(resident(self.pid, alone=True))

    @property
    def alive(self) -> bool:
        """Whether it is there to be asked."""
        self.messages()
        return not self._said.ended

    def check(self) -> None:
        """Raise how it died, if it has.

        Raises:
            Died: it has.
        """
        if self._said.ended:
            code = -signal.SIGKILL
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    code = self._process.wait(GRACE)
            self.errors.read()
            raise death_of(code)

    def end(self) -> None:
        """End it, and all that it started."""
        self._said.close()
        self.control.close()  # upon which it ends its children, and itself
        if self._process is None:
            return
        if self._answered:  # else it may still be importing
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        self.end_marked()
        self._process.wait()
        self.errors.close()

    def end_marked(self) -> None:
        """Kill all that came from this template or from the one that forked it, whoever is their parent now."""
        for _ in range(ROUNDS):
            marked = [process for process in psutil.process_iter() if self._is_marked(process)]
            if not marked:
                return
            for process in marked:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(marked, timeout=1)

    def _is_marked(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            return process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
        return False


class Child:
    """A process that runs one stage of one cell.

    Args:
        template: that forked it.
        pid: its process id.
        events: what it says.
        errors: its standard error.
    """

    def __init__(self, template: Template, pid: int, events: Lines, errors: Errors) -> None:
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
