"""The template: a process that imports everything and touches nothing, from which others are forked.

    python -m prunebench.runner.processes.template DESCRIPTOR STAGES fork|spawn

It takes requests, a JSON object a line, on a socket, and answers with messages (``messages``): ``import`` has it import
all that cells need, at the latest done when the first of these needs it; ``prepare`` reads texts here, so that all
children have them; ``fork`` forks a child that runs one stage of one cell, whose descriptors come
along; ``template`` forks another template with a socket of its own; ``signal`` reaches the child. When a child has
ended, all that it left running is ended too, and counted. The template ends when its socket does.

Where the system cannot fork safely, children are started as programs of their own (spawn), which import all that they
need and read again what was prepared: slower by seconds a stage, and else the same.

STAGES is the module that says what is imported before, and what a child does (``stages``). No plugin is ever imported
here.
"""

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prunebench.quiet import quiet_libraries
from prunebench.runner.processes.linux import adopt_orphans, children, die_with_parent, end_children

if TYPE_CHECKING:
    from prunebench.runner.resources import Resources

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
DESCRIPTORS = 2  # that come with one request at most


class Template:
    """One template at work.

    Args:
        control: where requests come from.
        stages: has ``import_everything``, ``needs_everything``, ``prepare`` and ``run_stage``.
        resources: what was read so far.
        prepared: the requests by which it was read.
        spawn: start children as programs of their own instead of forking them.
    """

    def __init__(
        self,
        control: socket.socket,
        stages: ModuleType,
        resources: "Resources",
        prepared: Sequence[dict[str, Any]] = (),
        *,
        spawn: bool = False,
    ) -> None:
        self._control, self._stages, self._resources = control, stages, resources
        self._prepared, self._spawns = list(prepared), spawn
        self._program: subprocess.Popen[bytes] | None = None
        self._received, self._descriptors = bytearray(), list[int]()
        self._child: int | None = None
        self._templates: set[int] = set()
        self._wake, self._waker = os.pipe()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)

    def serve(self) -> None:
        """Work until the other side is gone."""
        adopt_orphans()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._control.fileno(), self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._receive():
                break
        signal.set_wakeup_fd(-1)
        end_children(set())
        os._exit(0)

    def _tell(self, event: str, *content: Any) -> None:
        from prunebench.runner.processes.messages import encode

        with suppress(OSError):  # its end is seen when the next request is waited for
            self._control.sendall(encode(event, *content))

    def _receive(self) -> bool:
        """Read requests and do what they say; whether there is anybody left."""
        try:
            some, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, DESCRIPTORS)
        except ConnectionError:
            return False
        self._descriptors += descriptors
        self._received += some
        while (end := self._received.find(b"\n")) >= 0:
            request = json.loads(bytes(self._received[:end]))
            del self._received[: end + 1]
            self._answer(request)
        return bool(some)

    def _answer(self, request: dict[str, Any]) -> None:
        if request["do"] != "signal" and (request["do"] != "fork" or self._stages.needs_everything(request)):
            self._stages.import_everything()
        match request["do"]:
            case "prepare":
                self._prepare(request)
            case "fork":
                self._fork(request)
            case "template":
                self._fork_template()
            case "signal":
                if self._child is not None:
                    os.kill(self._child, request["number"])

    def _prepare(self, request: dict[str, Any]) -> None:
        from prunebench.errors import PrunebenchError

        try:
            self._stages.prepare(request, self._resources)
        except PrunebenchError as error:
            self._tell("refused", type(error).__name__, str(error))
        else:
            self._prepared.append(request)
            self._tell("done")

    def _fork(self, request: dict[str, Any]) -> None:
        events, stderr = (self._descriptors.pop(0) for _ in range(2))

        def become() -> None:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for target in (1, 2):
                os.dup2(stderr, target)
            os.close(stderr)
            self._stages.run_stage(request, events, self._resources)

        if self._spawning:
            what = {"prepared": self._prepared, "request": request}
            self._child = self._started(["child", str(events)], what, events, stderr)
        else:
            self._child = self._forked(become)
        os.close(events)
        os.close(stderr)
        self._tell("forked", self._child)

    def _fork_template(self) -> None:
        control = socket.socket(fileno=self._descriptors.pop(0))
        if self._spawning:
            pid = self._started([str(control.fileno())], {"prepared": self._prepared}, control.fileno(), 2)
        else:
            pid = self._forked(lambda: Template(control, self._stages, self._resources, self._prepared).serve())
        control.close()
        self._templates.add(pid)
        self._tell("forked", pid)

    @property
    def _spawning(self) -> bool:
        """Whether children are started as programs: it was asked for, or a driver that no child could use is in use."""
        torch = sys.modules.get("torch")
        return self._spawns or (torch is not None and torch.cuda.is_initialized())

    def _started(self, words: list[str], what: dict[str, Any], descriptor: int, errors: int) -> int:
        """Start a program of this module, with what it needs on its standard input."""
        program = [sys.executable, "-P", "-m", "prunebench.runner.processes.template", *words]
        program += [self._stages.__name__, "spawn"]
        self._program = subprocess.Popen(  # kept, so that nothing but ``_reap`` waits for it
            program, stdin=subprocess.PIPE, stdout=errors, stderr=errors, pass_fds=[descriptor], start_new_session=True
        )
        assert self._program.stdin is not None
        with suppress(OSError), self._program.stdin as given:  # one that is gone is seen by its end
            given.write(json.dumps(what).encode())
        return self._program.pid

    def _forked(self, become: Callable[[], None]) -> int:
        """Fork a child that has nothing of this process but its memory, and its errors' way out."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if not gc.get_freeze_count():
            gc.collect()
        gc.freeze()  # so that a collection in the child copies no page of what both have
        parent = os.getpid()
        if pid := os.fork():
            return pid
        try:
            die_with_parent(parent)
            signal.set_wakeup_fd(-1)
            self._control.close()
            os.close(self._wake)
            os.close(self._waker)
            become()
        finally:
            os._exit(1)

    def _reap(self) -> None:
        """See who has ended: the child, a template, or an orphan that came here."""
        for pid in (*children(), *self._templates, *([self._child] if self._child else ())):
            try:
                ended, status, usage = os.wait4(pid, os.WNOHANG)
            except ChildProcessError:
                continue
            if not ended:
                continue
            self._templates.discard(pid)
            if pid == self._child:
                self._child = None
                orphans = end_children(self._templates)
                self._tell("exited", pid, os.waitstatus_to_exitcode(status), usage.ru_maxrss * MAXRSS_UNIT, orphans)


def main() -> None:
    """Serve, or be the child that was started."""
    role, *descriptors, name, way = sys.argv[1:]
    die_with_parent(os.getppid())
    given = json.loads(sys.stdin.buffer.read() or b"{}")
    os.dup2(2, 1)
    # A driver that was asked for its devices here could not be used in a child: let torch ask another way.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    with quiet_libraries():
        from prunebench.runner.resources import Resources

        stages, resources = import_module(name), Resources()
        prepared = given.get("prepared", ())
        if prepared or (role == "child" and stages.needs_everything(given["request"])):
            stages.import_everything()
        for request in prepared:
            stages.prepare(request, resources)
        if role == "child":
            stages.run_stage(given["request"], int(descriptors[0]), resources)
        Template(socket.socket(fileno=int(role)), stages, resources, prepared, spawn=way == "spawn").serve()


if __name__ == "__main__":
    main()
