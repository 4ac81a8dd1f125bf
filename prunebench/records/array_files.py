"""The files of arrays beside a record: named by their digest, read without pickle, checked whenever they are read."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prunebench.errors import RecordError, first_line
from prunebench.files import MEBIBYTE, irregular, read_regular_file, write_atomically
from prunebench.records.record import Record, arrays_name, is_arrays_name

ARRAYS_LIMIT = 4096 * MEBIBYTE  # a hundred times what the largest models need
_ADVICE = "fetch it again, or run the suite again with --fresh"


def write_arrays(folder: Path, cell: str, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write a file of arrays.

    Args:
        folder: the results folder.
        cell: id of the cell whose record will name the file.
        arrays: one-dimensional, by name.

    Returns:
        The file's name by its SHA-256, as it stands in ``Record.arrays``.

    Raises:
        OSError: the folder cannot be written.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **dict(arrays))  # type: ignore[arg-type]
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    name = arrays_name(cell, digest)
    if kind := irregular(folder / name):
        raise OSError(0, f"{folder / name} is {kind}; remove it")
    write_atomically(folder / name, content.getbuffer())
    return {digest: name}


def arrays_of(folder: Path, cell: str) -> list[Path]:
    """All files of arrays that are named as those of a cell."""
    return [path for path in folder.iterdir() if is_arrays_name(path.name, cell)]


def read_contents(folder: Path, record: Record) -> dict[str, bytes]:
    """The bytes of a record's files of arrays by file name, each checked by its digest.

    Raises:
        RecordError: a file is missing, altered, or not a regular file.
    """
    contents = {}
    for digest, name in record.arrays.items():
        path = folder / name
        try:
            content = read_regular_file(path, ARRAYS_LIMIT, follow_links=False)
        except OSError as error:
            raise RecordError(f"cannot read the arrays {path}: {error.strerror or error}", _ADVICE) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise RecordError(f"{path} is no array file of its record: it was altered, or is another's", _ADVICE)
        contents[name] = content
    return contents


def parsed_arrays(folder: Path, record: Record) -> dict[str, np.ndarray]:
    """The arrays of a record by name.

    Raises:
        RecordError: a file is missing, truncated or altered, or holds anything but rows of numbers.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, content in read_contents(folder, record).items():
        path = folder / name
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                if sum(entry.file_size for entry in file.zip.infolist()) > ARRAYS_LIMIT:
                    raise ValueError("its arrays are larger than any of ours")
                arrays.update({key: file[key] for key in file.files})
        except Exception as error:  # numpy and zipfile raise a dozen types for a damaged file
            raise RecordError(f"{path} is no array file of prunebench: {first_line(error)}", _ADVICE) from None
    for key, array in arrays.items():
        if not is_row(array):
            places = ", ".join(str(folder / name) for name in record.arrays.values())
            raise RecordError(f"{places} is no array file of prunebench: {key!r} is no row of numbers", _ADVICE)
    return arrays


def is_row(array: np.ndarray) -> bool:
    """Whether an array is one that a record can have: a row of numbers."""
    return array.ndim == 1 and array.dtype.kind in "biuf"
