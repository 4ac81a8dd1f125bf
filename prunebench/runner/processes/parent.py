"""The runner's side of a template: it starts one, asks it for children, and ends all that came from it."""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

import psutil

from prunebench.runner.malloc import keeping
from prunebench.runner.openmp import waiting
from prunebench.runner.processes.child import GRACE, LOOK, TICK, Child, Watch, death_of, raise_refusal, resident
from prunebench.runner.processes.messages import Lines, decode
from prunebench.runner.processes.standard_error import Errors
from prunebench.text import printable

ROUNDS, MARK = 20, "PRUNEBENCH_SWEEP"
PATIENCE = 60.0  # seconds for a template that reads texts to take a request
WAY = "fork" if sys.platform == "linux" else "spawn"  # how children come to be
STAGES = "prunebench.runner.processes.stages"


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
    def start(cls, stages: str = STAGES, way: str = WAY, variables: Mapping[str, str] | None = None) -> Self:
        """Start the first template.

        Args:
            stages: the module that says what its children do.
            way: "fork", or "spawn" where that is not safe; see ``template``.
            variables: environment variables of it and its children, besides this process's own.
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
            env={**os.environ, **waiting(), **keeping(), **(variables or {}), MARK: mark},
            start_new_session=True,  # Ctrl-C is for the parent, which ends the others in its own time
        )
        theirs.close()
        os.close(write)
        return cls(ours, process.pid, Errors(read), mark, process)

    def import_everything(self) -> None:
        """Have it import what cells need, which takes seconds, while others are waited for."""
        self._send({"do": "import"})

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
