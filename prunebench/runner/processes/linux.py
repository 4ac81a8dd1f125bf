"""What Linux does for processes that start others; elsewhere these do nothing."""

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # their numbers in linux/prctl.h
ROUNDS = 200


def _prctl(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends.

    Args:
        parent: its process id; the process ends at once if it is gone already.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, daemons included."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def children() -> set[int]:
    """Process ids of this process's children."""
    pids: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            pids |= {int(word) for word in task.read_text().split()}
    return pids


def end_children(spared: set[int]) -> int:
    """Kill all children but some, and those that become children by that; how many there were."""
    ended: set[int] = set()
    for _ in range(ROUNDS):  # one that forks faster than it is killed is left to whoever ends this process
        left = {pid for pid in children() - spared if not _reaped(pid)}
        if not left:
            break
        ended |= left
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
    return len(ended)


def _reaped(pid: int) -> bool:
    """Whether a child had ended already, and is gone now."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
