"""Where the records of a sweep are: written by workers, read by whoever started them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from prunebench.errors import OutputError
from prunebench.files import Fence
from prunebench.records.quarantine import read_intact_record
from prunebench.records.record import Record
from prunebench.records.store import FAILED, read_record, write_record

Signature = tuple[tuple[int, ...] | None, tuple[int, ...] | None]
"""Of a cell's record and of that of its failure: changes when one of them is written. No clock is trusted."""


class Store(Protocol):
    """Where the records of a sweep are. The process that writes a record is the one that is fenced."""

    def write(self, record: Record, arrays: Mapping[str, np.ndarray], *, fence: Fence | None = None) -> Record:
        """Write a record and its arrays, so that others see both or none of them; what was written.

        Args:
            record: the record.
            arrays: by name, as in ``prunebench.records.store.write_record``.
            fence: asked immediately before the record takes its place.

        Raises:
            OutputError: it cannot be written.
            Abandoned: the fence said no.
        """

    def signature(self, cell: str) -> Signature:
        """What tells later whether a record of a cell, by its id, was written since."""

    def written_since(self, cell: str, before: Signature) -> Record | None:
        """The record of a cell, be it failed, that was written since; None where there is none that is whole."""


@dataclass(frozen=True)
class FolderStore:
    """A results folder, on this machine or on a file system that several share.

    Args:
        folder: it.
    """

    folder: Path

    def write(self, record: Record, arrays: Mapping[str, np.ndarray], *, fence: Fence | None = None) -> Record:
        """Write a record; see ``Store``."""
        return read_record(write_record(self.folder, record, arrays, fence=fence))

    def signature(self, cell: str) -> Signature:
        """Inode, size and time of change of the files; see ``Store``."""
        return _seen(self.folder / f"{cell}.json"), _seen(self.folder / f"{cell}{FAILED}")

    def written_since(self, cell: str, before: Signature) -> Record | None:
        """The new record of a cell; see ``Store``."""
        now = self.signature(cell)
        try:
            if now[1] is not None and now[1] != before[1]:
                return read_record(self.folder / f"{cell}{FAILED}")
            return read_intact_record(self.folder, cell) if now[0] != before[0] else None
        except OutputError:
            return None


def _seen(path: Path) -> tuple[int, ...] | None:
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
