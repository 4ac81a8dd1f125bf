"""Whether a runner on this machine still lives: it holds a lock that the system takes back when it dies.

The lock is on a file in memory that no other machine sees. So a file that is here and locked is a living runner of this
machine, one that is not locked a dead one, and one that is not here says nothing: the runner may be on another machine,
in another container, or another user's. No process number, boot id or ``/proc`` is asked: numbers are used again, two
machines may share an id, and ``/proc`` may hide a living process.
"""

import os
import re
import secrets
import sys
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from prunebench.files import irregular

_MEMORY = Path("/dev/shm")


class Presence:
    """The sign of life of one runner, until it is closed or the process ends in whatever way.

    Args:
        folder: where the files of this machine's runners are; by default in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.token = secrets.token_hex(16)
        self._folder = folder or _own_folder()
        self._end = weakref.finalize(self, _remove, _locked(self._folder, self.token), os.getpid())

    def is_dead(self, token: object) -> bool:
        """Whether the runner of a token was on this machine and is gone; False where that cannot be known."""
        if self._folder is None or not isinstance(token, str) or not re.fullmatch("[0-9a-f]{32}", token):
            return False
        path = self._folder / token
        try:
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            _lock(number)
        except OSError:
            return False
        finally:
            os.close(number)
        with suppress(OSError):
            path.unlink()
        return True

    def close(self) -> None:
        """End the sign of life."""
        self._end()


def _own_folder() -> Path | None:
    """A folder of this user and this machine alone; None where there is none to be had."""
    if sys.platform == "win32":
        return None
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    folder = parent / f"prunebench-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        own = irregular(folder, folder=True) is None and folder.lstat().st_uid == os.getuid()
    except OSError:
        return None
    return folder if own else None


def _locked(folder: Path | None, token: str) -> tuple[int, Path] | None:
    """A new file under a lock; None where the system has no such locks."""
    if folder is None:
        return None
    path = folder / token
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        _lock(number)
    except OSError:
        os.close(number)
        path.unlink(missing_ok=True)
        return None
    return number, path


def _lock(number: int) -> None:
    """Lock an open file, if nobody else has.

    Raises:
        OSError: somebody has, or the file system has no locks.
    """
    if sys.platform == "win32":
        raise OSError(0, "no locks that end with their process")
    import fcntl

    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(file: tuple[int, Path] | None, owner: int) -> None:
    if file is not None and os.getpid() == owner:  # and not a process that was forked from it
        number, path = file
        path.unlink(missing_ok=True)
        os.close(number)
