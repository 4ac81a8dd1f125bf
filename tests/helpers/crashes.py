"""Faults injected into what a program does to the disk: the process is killed, or the disk is full, at the k-th point.

Points are every opening of a file for writing, creation of a folder, renaming, removal, flush, and the middle of a
write; they are seen by Python's audit events, so that nothing that writes has to be changed for it.
"""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

Fault = Literal["kill", "full", "full for good"]
KILLED, FINISHED, SURVIVED, REFUSED = 9, 0, 1, 2
_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.copyfile"}
_REMOVALS = {"os.remove", "os.rmdir"}


def struck(action: Callable[[], object], fault: Fault, point: int, folder: Path) -> int:
    """Run an action in a forked child that is struck at a point.

    Args:
        action: writes into the folder; an ``OutputError`` is its answer to a full disk.
        fault: "kill" ends the process there; "full" raises ENOSPC once, "full for good" from there on, but not where
            something is removed.
        point: from 1.
        folder: only what is done in it counts.

    Returns:
        ``KILLED``; ``REFUSED``, the action raised an ``OutputError``; ``SURVIVED``, it was struck and came to its end;
        ``FINISHED``, it has fewer points.
    """
    if (child := os.fork()) == 0:
        code = 99
        try:
            passed = _inject(fault, point, str(folder))
            code = _ended(action)
            code = SURVIVED if code == FINISHED and passed() >= point else code
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (KILLED, FINISHED, REFUSED, SURVIVED), f"the child ended with {code}"
    return code


def _ended(action: Callable[[], object]) -> int:
    from prunebench.errors import OutputError

    try:
        action()
    except OutputError:
        return REFUSED
    return FINISHED


def _inject(fault: Fault, point: int, folder: str) -> Callable[[], int]:
    """Set the trap; returns what tells how many points were passed."""
    passed = 0

    def strike(removal: bool = False) -> None:
        nonlocal passed
        passed += 1
        if fault == "kill" and passed == point:
            os._exit(KILLED)
        if (fault == "full" and passed == point) or (fault == "full for good" and passed >= point and not removal):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = bool(set(mode or "") & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes and str(path).startswith(folder):
                strike()
        elif event in _EVENTS and any(str(argument).startswith(folder) for argument in arguments[:2]):
            strike(event in _REMOVALS)

    flush, write_bytes = os.fsync, Path.write_bytes

    def fsync(number: int) -> None:
        strike()
        flush(number)

    def halved(path: Path, content: bytes) -> int:
        half = memoryview(content)[: len(content) // 2]
        write_bytes(path, half)
        strike()
        return write_bytes(path, content)

    patch = pytest.MonkeyPatch()  # of the child, which never undoes it
    patch.setattr(os, "fsync", fsync)
    patch.setattr(Path, "write_bytes", halved)
    sys.addaudithook(hear)
    return lambda: passed
