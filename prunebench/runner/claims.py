"""Claims: which runner has which cell, where several work on one results folder, on one machine or on many.

A claim is a file, made all at once or not at all, that its holder lengthens by a byte every few seconds. Whoever finds
it unchanged for a whole lease, by a clock of their own, takes the cell over by making the claim of the next generation;
the file system lets only one of them. No two clocks are ever compared. A holder that died on this machine is known to
be dead at once.
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

import psutil

from prunebench.errors import OutputError
from prunebench.files import Abandoned as Abandoned

FOLDER = ".claims"
LEASE = 60.0
BEATS = 6  # a lease
TRANSIENT_ERRORS = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT)  # of a file system that is away for a moment


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a claim's file looked like, and since when."""

    generation: int
    size: int
    since: float


class Claim:
    """A cell that this runner has, until ``release``.

    Args:
        path: the claim's file.
        content: what it began with, which no other claim ever does.
        beat: seconds between two signs of life.
    """

    def __init__(self, path: Path, content: str, beat: float) -> None:
        self._path, self._content = path, content
        self._beat = beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="claim", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self._over.wait(self._beat):
            with suppress(OSError), os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND), "wb") as file:
                file.write(b".")

    @property
    def lost(self) -> bool:
        """Whether another runner took it over, this one having been silent for a lease."""
        try:
            return not self._stands() or _latest(self._path.parent, self._path.stem) != _generation(self._path)
        except OSError:  # of a file system that is away for a moment
            return False

    def _stands(self) -> bool:
        """Whether the file is still this claim's, and no later one of the same number."""
        try:
            return self._path.read_text(encoding="utf-8").startswith(self._content)
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the cell free: its record is written, or it will not be."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):  # else it runs out by itself
            for path in _claims_on(self._path.parent, self._path.stem) if self._stands() else ():
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
        self._me = _identity()
        self._seen: dict[str, _Seen] = {}

    def take(self, cell: str) -> Claim | None:
        """Claim a cell; None while another runner has it.

        Raises:
            OutputError: the folder cannot be written.
        """
        content = json.dumps({**self._me, "token": secrets.token_hex(8)}) + "\n"
        try:
            generation = _latest(self._folder, cell)
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
        return Claim(path, content, self._lease / BEATS) if made else None

    def _make(self, path: Path, content: str) -> bool:
        for _ in range(3):
            self._folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another runner, with its last cell done, took the folder away
                return _make(path, content)
        return False

    def close(self) -> None:
        """Take the folder away if nobody has a claim in it."""
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

    def _dead(self, cell: str, generation: int) -> bool:
        """Whether a claim's holder gives no sign any more."""
        path = self._folder / f"{cell}.{generation}"
        try:
            size = path.stat().st_size
            holder = json.loads(path.read_text(encoding="utf-8").partition("\n")[0])
        except FileNotFoundError:
            return False  # released just now: its record may be there, see to it in the next round
        except (OSError, ValueError):
            holder = {}  # not ours, or torn by a full disk: its lease decides
        if isinstance(holder, dict) and holder.get("place") == self._me["place"]:
            return not _runs(holder)
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


def _identity() -> dict[str, Any]:
    """This process, such that others can tell whether it still runs; ``place`` is where its number means something."""
    place = [socket.gethostname()]
    with suppress(OSError):
        place.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        place.append(str(Path("/proc/self/ns/pid").readlink()))
    return {"place": place, "pid": os.getpid(), "started": _start(os.getpid())}


def _start(pid: int) -> float:
    """When a process began, by a clock that nobody can set where there is one.

    Raises:
        psutil.Error: there is no such process.
    """
    with suppress(OSError, IndexError):
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])  # ticks since boot
    return psutil.Process(pid).create_time()


def _runs(holder: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(holder["pid"])
        return process.status() != psutil.STATUS_ZOMBIE and _start(holder["pid"]) == holder["started"]
    except psutil.AccessDenied:  # another user's
        return True
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
