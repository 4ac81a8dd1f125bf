"""Claims: which runner has which cell, where several work on one results folder, on one machine or on many.

A claim is a file, made all at once or not at all, that its holder lengthens by a byte every few seconds. Whoever finds
it unchanged for a whole lease, by a clock of their own, takes the cell over by making the claim of the next generation;
the file system lets only one of them. No two clocks are ever compared. So a holder that was stopped loses the cell,
wherever it is; one that died on this machine is known to be dead at once (``presence``).

Whoever lost a claim writes no record: the claim is checked immediately before a record is renamed into place, and who
takes over removes the temporary files of the holder before, so that one who was stopped between the two cannot rename.
"""

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunebench.errors import OutputError
from prunebench.files import MEBIBYTE, irregular, read_regular_file
from prunebench.files import Abandoned as Abandoned
from prunebench.runner.presence import Presence
from prunebench.text import printable

FOLDER = ".claims"
LEASE = 60.0
BEATS = 6  # a lease
RETRIES = 5  # of a process that asks for its runner, a second apart
LIMIT = 16 * MEBIBYTE  # of a claim's file, a byte a beat
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
TRANSIENT_ERRORS = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT)  # of a file system that is away for a moment


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a claim's file looked like, and since when."""

    generation: int
    size: int
    since: float


@dataclass(frozen=True)
class Standing:
    """Whether a claim stands, asked by any process that works for its holder: a ``prunebench.files.Fence``.

    Args:
        path: the claim's file.
        content: what it began with, which no other claim ever does.
    """

    path: Path
    content: str

    def __call__(self) -> bool:
        """Whether nobody has taken the cell over; of a file system that stays away, that somebody may have."""
        for _ in range(RETRIES):
            with suppress(OSError):
                return self.look()
            time.sleep(1.0)
        return False

    def look(self) -> bool:
        """The same, asked once.

        Raises:
            OSError: the file system is away.
        """
        return self.is_ours() and _latest(self.path.parent, self.path.stem) == _generation(self.path)

    def is_ours(self) -> bool:
        """Whether the file is still this claim's, and no later one of the same number."""
        try:
            content = read_regular_file(self.path, LIMIT, follow_links=False)
        except FileNotFoundError:
            return False
        return content.startswith(self.content.encode())


class Claim:
    """A cell that this runner has, until ``release``; called, it says whether that is still so.

    Args:
        path: the claim's file.
        content: what it began with, which no other claim ever does.
        lease: seconds of silence after which others may take the cell over.
        presence: of the runner; it lasts as long as the claim.
    """

    def __init__(self, path: Path, content: str, lease: float, presence: Presence) -> None:
        self.standing = Standing(path, content)
        self._path, self._lease, self._presence = path, lease, presence
        self._over = threading.Event()
        self._sign = time.monotonic()
        self._thread = threading.Thread(target=self._live, name="claim", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self._over.wait(self._lease / BEATS):
            with suppress(OSError), os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | NOFOLLOW), "wb") as file:
                file.write(b".")
                self._sign = time.monotonic()

    @property
    def took_over(self) -> bool:
        """Whether another runner had the cell before and did not release it."""
        return _generation(self._path) > 1

    def __call__(self) -> bool:
        """Whether nobody has taken the cell over: asked now and then, and before a record is renamed into place."""
        try:
            return self.standing.look()
        except OSError:  # of a file system that is away for a moment: nobody is overtaken within half a lease
            return time.monotonic() - self._sign < self._lease / 2

    def release(self) -> None:
        """Give the cell free: its record is written, or it will not be."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):  # else it runs out by itself
            for path in _claims_on(self._path.parent, self._path.stem) if self.standing.is_ours() else ():
                if _generation(path) <= _generation(self._path):
                    path.unlink(missing_ok=True)


class Claims:
    """The claims in a results folder.

    Args:
        output: the results folder.
        lease: seconds after which a holder that gives no sign is held for dead.
    """

    def __init__(self, output: Path, lease: float = LEASE) -> None:
        self._folder = output / FOLDER
        self._lease = lease
        self._presence = Presence()
        self._seen: dict[str, _Seen] = {}
        self._holders: dict[str, dict[str, Any]] = {}

    def take(self, cell: str) -> Claim | None:
        """Claim a cell; None while another runner has it.

        Raises:
            OutputError: the folder cannot be written.
        """
        own = {"host": socket.gethostname(), "pid": os.getpid(), "runner": self._presence.token}
        content = json.dumps({**own, "claim": secrets.token_hex(8)}) + "\n"
        try:
            if kind := irregular(self._folder, folder=True):
                raise OutputError(f"cannot claim a cell in {self._folder}: it is {kind}; remove it")
            generation = _latest(self._folder, cell)  # looked at once: a claim that comes now must not be passed over
            if generation and not self._dead(cell, generation):
                return None
            path = self._folder / f"{cell}.{generation + 1}"
            made = self._make(path, content)
        except OSError as error:
            if error.errno in TRANSIENT_ERRORS:
                return None
            raise OutputError(
                f"cannot claim a cell in {self._folder}: {error.strerror}; free some room, or choose another --output"
            ) from None
        return Claim(path, content, self._lease, self._presence) if made else None

    def _make(self, path: Path, content: str) -> bool:
        for _ in range(3):
            self._folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another runner, with its last cell done, took the folder away
                return _make(path, content)
        return False

    def close(self) -> None:
        """Take the folder away if nobody has a claim in it."""
        self._presence.close()
        with suppress(OSError):
            self._folder.rmdir()

    @contextmanager
    def held(self, cell: str) -> Iterator[Claim | None]:
        """``take`` for the length of a ``with`` block."""
        claim = self.take(cell)
        try:
            yield claim
        finally:
            if claim is not None:
                claim.release()

    def is_held(self, cell: str) -> bool:
        """Whether a runner has a cell, as far as it shows.

        Raises:
            OSError: the file system is away.
        """
        generation = _latest(self._folder, cell)
        return bool(generation) and not self._dead(cell, generation)

    def holder(self, cell: str) -> str | None:
        """Who has a cell that could not be claimed, in words; None where that is not known."""
        holder = self._holders.get(cell, {})
        if not holder.get("host"):
            return None
        return printable(f"process {holder.get('pid')} on {holder['host']}")

    def _dead(self, cell: str, generation: int) -> bool:
        """Whether a claim's holder gives no sign any more."""
        path = self._folder / f"{cell}.{generation}"
        holder: Any = {}
        try:
            size = path.lstat().st_size
            holder = json.loads(read_regular_file(path, LIMIT, follow_links=False).partition(b"\n")[0])
        except FileNotFoundError:
            return False  # released just now: its record may be there, see to it in the next round
        except (OSError, ValueError):
            pass  # not ours, or torn by a full disk: its lease decides
        self._holders[cell] = holder if isinstance(holder, dict) else {}
        if self._presence.is_dead(self._holders[cell].get("runner")):
            return True
        now, seen = time.monotonic(), self._seen.get(cell)
        if seen is None or (seen.generation, seen.size) != (generation, size):
            self._seen[cell] = _Seen(generation, size, now)
            return False
        return now - seen.since > self._lease


def _make(path: Path, content: str) -> bool:
    """Make a file with its content, unless it is there: whether it was made."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.write_text(content, encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return temporary.stat().st_nlink == 2  # it was made, and the answer lost on its way
    except OSError:  # a file system without links
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _latest(folder: Path, cell: str) -> int:
    """The latest generation of a cell's claims; 0 where there is none."""
    return max(map(_generation, _claims_on(folder, cell)), default=0)


def _claims_on(folder: Path, cell: str) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.stem == cell]
    except FileNotFoundError:
        return []


def _generation(path: Path) -> int:
    return int(path.suffix[1:]) if path.suffix[1:].isdecimal() else 0
