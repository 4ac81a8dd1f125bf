"""Records that cannot be trusted: told from good ones, named, and moved out of the way."""

import logging
import os
from pathlib import Path

from prunebench.errors import OutputError
from prunebench.files import why
from prunebench.records.record import Record
from prunebench.records.store import RecordError, check_arrays, read_record
from prunebench.text import plain

FOLDER = ".set-aside"
_LOG = logging.getLogger(__name__)


def whole_record(folder: Path, name: str) -> Record | None:
    """The record of a cell with whole arrays beside it; None where there is no file of its name.

    Args:
        folder: the results folder.
        name: the cell's id.

    Raises:
        RecordError: the record or its arrays are torn, altered or another's.
    """
    path = folder / f"{name}.json"
    if not os.path.lexists(path):
        return None
    record = read_record(path)
    if record.cell.id != name:
        raise RecordError(f"{path} is the record of another cell, {record.cell.id}")
    check_arrays(path, record)
    return record


def good_record(folder: Path, name: str) -> Record | None:
    """The record of a cell that ran well, with whole arrays beside it; else None.

    A record that is torn, altered or another's is moved to ``.set-aside/`` in the folder, its arrays with it, and named
    in a warning of the log, which goes to stderr.

    Args:
        folder: the results folder.
        name: the cell's id.

    Raises:
        OutputError: such a record cannot be moved.
    """
    try:
        record = whole_record(folder, name)
    except RecordError as error:
        place = set_aside(folder / f"{name}.json")
        _LOG.warning("%s", plain(f"set aside in {place.parent}, the cell runs again: {error.reason}"))
        return None
    return record if record is not None and record.status == "ok" else None


def set_aside(path: Path) -> Path:
    """Move a record, and the arrays beside it, to ``.set-aside/`` in their folder.

    Args:
        path: the record's file.

    Returns:
        Where it lies now; numbered if one of its name is there already.

    Raises:
        OutputError: it cannot be moved.
    """
    folder = path.parent / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        number = 0
        while os.path.lexists(place := folder / f"{path.stem}{f'.{number}' if number else ''}{path.suffix}"):
            number += 1
        path.rename(place)
        beside = path.with_suffix(".npz")
        if os.path.lexists(beside):
            beside.rename(place.with_suffix(".npz"))
    except FileNotFoundError:
        pass  # another runner has moved it just now
    except OSError as error:
        raise OutputError(f"cannot move {path} out of the way: {why(error)}") from None
    return place
