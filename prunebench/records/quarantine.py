"""Quarantine of damaged records: they are detected, logged, and moved to a folder of their own."""

import logging
import os
from pathlib import Path

from prunebench.errors import OutputError, RecordError
from prunebench.files import describe_os_error
from prunebench.records.array_files import arrays_of
from prunebench.records.record import Record
from prunebench.records.store import FAILED, check_arrays, read_record, refuse_irregular
from prunebench.text import printable

QUARANTINE_FOLDER = ".set-aside"
_LOG = logging.getLogger(__name__)


def read_intact_record(folder: Path, name: str) -> Record | None:
    """Read the record of a cell and check its arrays.

    Args:
        folder: the results folder.
        name: the cell's id.

    Returns:
        The good record, else that of the last attempt that failed; None if the cell has no record file.

    Raises:
        RecordError: the record or its arrays are truncated, altered, or belong to another cell.
    """
    good = _read_intact(folder / f"{name}.json", name)
    if good is not None and good.status == "ok":
        return good
    return _read_intact(folder / f"{name}{FAILED}", name) or good


def _read_intact(path: Path, name: str) -> Record | None:
    if not os.path.lexists(path):
        return None
    record = read_record(path)
    if record.cell.id != name:
        raise RecordError(f"{path} is the record of another cell, {record.cell.id}")
    check_arrays(path, record)
    return record


def successful_record(folder: Path, name: str) -> Record | None:
    """The record of a cell that finished with status ``ok``, with intact arrays.

    A damaged record is quarantined together with its arrays, and a warning is logged.

    Args:
        folder: the results folder.
        name: the cell's id.

    Returns:
        The record; None if it is missing, failed or damaged, so that the cell must run.

    Raises:
        OutputError: a damaged record cannot be moved.
    """
    found = None
    for path in (folder / f"{name}.json", folder / f"{name}{FAILED}"):
        try:
            record = _read_intact(path, name)
        except RecordError as error:
            target = quarantine(path)
            _LOG.warning("%s", printable(f"set aside in {target.parent}, the cell runs again: {error.reason}"))
        else:
            found = record if record is not None and record.status == "ok" else found
    return found


def quarantine(path: Path) -> Path:
    """Move a record and its arrays to the folder ``.set-aside/`` beside it.

    Args:
        path: the record's file.

    Returns:
        The record's new path, numbered if the name is taken.

    Raises:
        OutputError: the files cannot be moved.
    """
    folder = path.parent / QUARANTINE_FOLDER
    refuse_irregular(path.parent, [QUARANTINE_FOLDER])
    try:
        folder.mkdir(exist_ok=True)
        number = 0
        while os.path.lexists(target := folder / f"{path.stem}{f'.{number}' if number else ''}{path.suffix}"):
            number += 1
        path.rename(target)
        for arrays in arrays_of(path.parent, path.stem):
            arrays.rename(target.with_name(target.stem + arrays.name[len(path.stem) :]))
    except FileNotFoundError:
        pass  # another runner has moved it just now
    except OSError as error:
        raise OutputError(f"cannot move {path} out of the way: {describe_os_error(error)}") from None
    return target
