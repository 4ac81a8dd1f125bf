"""What an unfinished cell leaves on disk, so that the next attempt goes on from there.

``<results>/.partial/<cell id>/`` holds a JSON file for each name that something was kept under: its facts, the name of
a safetensors file with its tensors, and a SHA-256 digest of both. The tensors are written first and the JSON is renamed
into place last, so that either the old state or the new one is there, whole. What does not belong to the very same
cell, versions, machine and thread count, or does not meet its digest, is removed and not used.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any, Self
from urllib.parse import quote

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from prunebench.errors import OutputError
from prunebench.files import atomic_replacement, remove_tree, write_atomically
from prunebench.pruning.callbacks import MethodState
from prunebench.runner.environment import WHOLE, Share, environment
from prunebench.suite.cell import Cell

FOLDER = ".partial"
INTERVAL = 60.0
STALE = 30 * 24 * 3600.0


class Stopped(BaseException):
    """A stop was asked for, and what there is of the cell is kept; no ``except Exception`` of a method holds it up."""


class SavedState:
    """The folder of one unfinished cell.

    Args:
        folder: made when something is kept; None keeps nothing.
        belongs: what has to be the same for a state to be used: a digest.
        interval: seconds between two saves.
        stop: once set, a save is due at once, and ends the cell by ``Stopped``.
    """

    def __init__(
        self, folder: Path | None = None, belongs: str = "", *, interval: float = INTERVAL, stop: Event | None = None
    ) -> None:
        self.folder, self.belongs, self.interval = folder, belongs, interval
        self._pause, self._saved = interval, time.monotonic()
        self.stop = stop or Event()

    @classmethod
    def of(
        cls,
        output: Path,
        cell: Cell,
        *,
        interval: float = INTERVAL,
        stop: Event | None = None,
        share: Share = WHOLE,
    ) -> Self:
        """That of a cell in a results folder, for this machine as it is now, and a worker with a share of it."""
        content = {
            **cell.model_dump(mode="json", exclude={"suite", "published", "tuning"}),
            **environment(cell, share),
            "started": None,
        }
        belongs = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
        folder = None if cell.device == "disk" else output / FOLDER / cell.id  # too large to be written once more
        return cls(folder, belongs, interval=interval, stop=stop)

    def part(self, name: str) -> Self:
        """The state that one of the processes of the cell keeps, in a folder inside this one."""
        folder = None if self.folder is None else self.folder / name
        return type(self)(folder, self.belongs, interval=self.interval, stop=self.stop)

    def due(self) -> bool:
        """Whether a save is due: the interval has passed, or a stop was asked for."""
        late = self.stop.is_set() or time.monotonic() - self._saved >= self._pause
        return self.folder is not None and late

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:
        """Save a state in place of what was kept under ``name``, all or nothing.

        Args:
            name: any text.
            tensors: on any device, of any dtype.
            facts: plain JSON.

        Returns:
            Whether it was saved; a disk that is full costs the state, not the cell.

        Raises:
            Stopped: a stop was asked for.
        """
        if self.folder is None:
            return False
        began = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_torn()
            self._write(self.folder / f"{_plain(name)}.json", tensors, facts)
            saved = True
        except (OSError, SafetensorError):
            saved = False
            self._remove_torn()
        self._saved = time.monotonic()
        if self.interval:  # saving takes at most a twentieth of the time
            self._pause = max(self.interval, 20 * (self._saved - began))
        if self.stop.is_set():
            raise Stopped
        return saved

    def _remove_torn(self) -> None:
        """What an attempt that was killed was writing."""
        assert self.folder is not None
        for torn in self.folder.glob("*.tmp"):
            torn.unlink(missing_ok=True)

    def _write(self, path: Path, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        file = None
        if tensors:
            file = _new_file(path)
            with atomic_replacement(file) as temporary:
                save_file(_separate(tensors), temporary)
        self._enter(path, file, facts)

    def _enter(self, path: Path, file: Path | None, facts: dict[str, Any]) -> None:
        text = json.dumps(facts)
        content = {"belongs": self.belongs, "digest": _digest(text, file), "file": file and file.name, "facts": text}
        write_atomically(path, json.dumps(content).encode())
        for old in _files_of(path):
            if old != file:
                old.unlink(missing_ok=True)

    def adopt(self, name: str, file: Path, facts: dict[str, Any]) -> Path:
        """Keep under ``name`` a file of tensors that lies on the same disk.

        Args:
            name: any text.
            file: moved here.
            facts: plain JSON.

        Returns:
            Where the file is now; where it was, if it cannot be kept.
        """
        if self.folder is None:
            return file
        path = self.folder / f"{_plain(name)}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            moved = file.rename(_new_file(path))
        except OSError:
            return file
        with suppress(OSError):
            self._enter(path, moved, facts)
        self._saved = time.monotonic()
        return moved

    def kept(self, name: str) -> MethodState | None:
        """The tensors, on the CPU, and the facts kept under ``name``; None where there are none that can be used."""
        found = self.find(name)
        if found is None:
            return None
        file, facts = found
        try:
            return ({} if file is None else load_file(file)), facts
        except (OSError, SafetensorError):
            self.forget(name)
            return None

    def find(self, name: str) -> tuple[Path | None, dict[str, Any]] | None:
        """The file of tensors, None where there were none, and the facts kept under ``name``; see ``kept``."""
        if self.folder is None:
            return None
        path = self.folder / f"{_plain(name)}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            file = None if content["file"] is None else path.with_name(content["file"])
            if content["belongs"] == self.belongs and content["digest"] == _digest(content["facts"], file):
                return file, json.loads(content["facts"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.forget(name)
        return None

    def forget(self, name: str) -> None:
        """Remove what was kept under ``name``, and under all names that go on from it after a slash."""
        if self.folder is not None and self.folder.is_dir():
            starts = f"{_plain(name)}.", _plain(f"{name}/")
            for path in list(self.folder.iterdir()):
                if path.name.startswith(starts):
                    path.unlink(missing_ok=True)

    def discard(self, name: str, parts: Iterable[str]) -> None:
        """Remove what was kept under a name, and parts, for certain: a method may have written there.

        Raises:
            OutputError: something cannot be removed.
        """
        if self.folder is None:
            return
        places = [self.folder / part for part in parts]
        if self.folder.is_symlink() or not self.folder.is_dir():
            places = [self.folder]
        else:
            with suppress(OSError):
                self.folder.chmod(0o700)
            places += [path for path in self.folder.iterdir() if path.name.startswith(f"{_plain(name)}.")]
        for path in places:
            try:
                _remove_for_certain(path)
            except OSError as error:
                raise OutputError(f"cannot remove {path}, which a method may have written: {error.strerror}") from None

    def remove(self) -> None:
        """Remove the folder: the cell is done, or to be run afresh."""
        if self.folder is not None:
            with suppress(OSError):
                remove_tree(self.folder)
            with suppress(OSError):  # other cells may have theirs in it
                self.folder.parent.rmdir()


def remove_stale(output: Path, planned: Iterable[Cell], done: Iterable[str] = (), *, older_than: float = STALE) -> None:
    """Remove what cells left that have their record, and those not planned here that nobody wrote to for a month.

    Args:
        output: the results folder.
        planned: cells whose state is left alone.
        done: ids of those among them that have their record: an attempt was killed right after it had written it.
        older_than: seconds since the last write.
    """
    names = {cell.id for cell in planned}
    for name in done:
        with suppress(OSError):
            remove_tree(output / FOLDER / name)
    for folder in (output / FOLDER).glob("*/"):
        with suppress(OSError):  # another sweep may remove it meanwhile
            if folder.name not in names and time.time() - folder.stat().st_mtime > older_than:
                remove_tree(folder)


def _remove_for_certain(path: Path) -> None:
    """Remove a file, link or folder, folders that were made unwritable included.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def _new_file(path: Path) -> Path:
    """A file of tensors for a JSON file."""
    return path.with_name(f"{path.stem}.{secrets.token_hex(8)}.safetensors")


def _plain(name: str) -> str:
    """A name as a part of a file's name, without dots and slashes."""
    return quote(name, safe="").replace(".", "%2E")


def _digest(text: str, file: Path | None) -> str:
    digest = hashlib.sha256(text.encode())
    if file is not None:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same on the CPU, contiguous, no two in one memory, as safetensors wants them."""
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in places else plain
        places.add(place)
    return found


def _files_of(path: Path) -> list[Path]:
    """The tensor files, old and new, of one JSON file."""
    return [file for file in path.parent.glob("*.safetensors") if file.name.startswith(f"{path.stem}.")]
