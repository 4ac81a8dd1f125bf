"""Records, their arrays and forecasts as files: written whole, read only if they are whole."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from prunebench.errors import OutputError
from prunebench.files import MEBIBYTE, read_regular, why, write_whole
from prunebench.records.canonical_json import content_digest, strict_json
from prunebench.records.record import FORECASTS, SCHEMA, Forecast, Record

# What a record and its arrays may take, in bytes: a hundred times what the largest models need.
RECORD_LIMIT, ARRAYS_LIMIT = 256 * MEBIBYTE, 4096 * MEBIBYTE


class RecordError(OutputError):
    """A file that is no record of ours.

    Args:
        reason: what is wrong with which file.
        advice: what to do.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason = reason


def write_record(folder: Path, record: Record, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write ``<cell id>.json``, and before it ``<cell id>.npz`` where there are arrays; each all or nothing.

    Args:
        folder: the results folder.
        record: the outcome. One that was read keeps the arrays it has.
        arrays: ``perplexity/<protocol>/losses`` (float64, nats, a sequence each) and ``…/counts`` (int64), and
            ``zero_shot/<task>/<metric>`` (a question each); ``mask``, see ``prunebench.runner.mask_sample``.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder / f"{record.cell.id}.json"
    beside = path.with_suffix(".npz")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if arrays:
            record = record.model_copy(update={"arrays_digest": _write_arrays(beside, arrays)})
        elif record.arrays_digest is None:
            beside.unlink(missing_ok=True)  # of an outcome that this one replaces
        write_whole(path, sealed(record).encode())
    except OSError as error:
        raise OutputError(f"cannot write the record {path}: {why(error)}") from None
    except ValueError as error:  # as an option nested a hundred deep, which nothing of ours would read again
        raise OutputError(f"cannot write the record {path}: {_first_line(error)}") from None
    return path


def sealed(record: Record) -> str:
    """A record as the JSON of its file, with its digest."""
    text = record.model_copy(update={"digest": None}).model_dump_json(by_alias=True)
    content = strict_json(text.encode())
    del content["digest"]
    digest = content_digest(content)
    return record.model_copy(update={"digest": digest}).model_dump_json(by_alias=True, indent=1) + "\n"


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write a file of arrays; its digest."""
    content = io.BytesIO()
    np.savez_compressed(content, **dict(arrays))  # type: ignore[arg-type]
    write_whole(path, content.getbuffer())
    return hashlib.sha256(content.getbuffer()).hexdigest()


def read_record(path: Path) -> Record:
    """Read one record.

    Args:
        path: a record's JSON file.

    Raises:
        RecordError: the file is no record, was altered, or is of a newer schema.
    """
    try:
        content = strict_json(read_regular(path, RECORD_LIMIT))
    except OSError as error:
        raise RecordError(f"cannot read the record {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise RecordError(
            f"{path} is no record: it is not valid JSON ({_first_line(error)})", "delete it and run the suite again"
        ) from None
    if not isinstance(content, dict) or type(content.get("schema")) is not int:
        raise RecordError(f"{path} is no record of prunebench: it has no schema number")
    if content["schema"] != SCHEMA:
        newer = content["schema"] > SCHEMA
        advice = f"newer than {SCHEMA}: update prunebench" if newer else f"where {SCHEMA} is valid: run the suite again"
        raise RecordError(f"{path} has schema {content['schema']}, {advice}")
    _check_digest(path, content)
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is no valid record: {place}: {first['msg']}") from None


def _check_digest(path: Path, content: dict[str, Any]) -> None:
    advice = "fetch it again, or delete it and run the suite again"
    if not isinstance(content.get("digest"), str):
        raise RecordError(f"{path} has no digest, so nobody knows whether it is whole", advice)
    try:
        digest = content_digest({name: value for name, value in content.items() if name != "digest"})
    except ValueError as error:
        raise RecordError(f"{path} is no record: {_first_line(error)}", advice) from None
    if digest != content["digest"]:
        raise RecordError(f"{path} was altered after it was written: its digest does not match", advice)


def check_arrays(path: Path, record: Record) -> None:
    """Check, without opening them, that the arrays beside a record are those that it was written with.

    Raises:
        RecordError: they are missing, altered or another record's.
    """
    _arrays_content(path.with_name(f"{record.cell.id}.npz"), record.arrays_digest)


def read_arrays(path: Path, digest: str | None = None) -> dict[str, np.ndarray]:
    """The arrays beside a record (``path`` is the record's); empty where there are none.

    Args:
        path: the record's file.
        digest: of the arrays, as the record says; where it is not given, the record is read for it.

    Raises:
        RecordError: the file is torn, altered or foreign, or missing where the record speaks of one.
    """
    beside = path.with_suffix(".npz")
    if digest is None and os.path.lexists(path):
        digest = read_record(path).arrays_digest
    content = _arrays_content(beside, digest)
    if content is None:
        return {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            if sum(entry.file_size for entry in file.zip.infolist()) > ARRAYS_LIMIT:
                raise ValueError("its arrays are larger than any of ours")
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy and zipfile have a dozen kinds, of which some mean a torn file
        raise RecordError(f"{beside} is no array file of prunebench: {_first_line(error)}", _ARRAYS_ADVICE) from None
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "biuf":
            raise RecordError(f"{beside} is no array file of prunebench: {name!r} is no row of numbers", _ARRAYS_ADVICE)
    return arrays


_ARRAYS_ADVICE = "fetch it again, or run the suite again with --fresh"


def _arrays_content(beside: Path, digest: str | None) -> bytes | None:
    """A file of arrays whose digest is as it should be; None where there is none and none should be."""
    if digest is None and not os.path.lexists(beside):
        return None
    try:
        content = read_regular(beside, ARRAYS_LIMIT)
    except OSError as error:
        raise RecordError(f"cannot read the arrays {beside}: {error.strerror or error}", _ARRAYS_ADVICE) from None
    if digest is None:
        raise RecordError(f"{beside} belongs to no record that is here", "delete it")
    if hashlib.sha256(content).hexdigest() != digest:
        raise RecordError(f"{beside} is no array file of its record: it was altered, or is another's", _ARRAYS_ADVICE)
    return content


def read_records(folder: Path, leave_out: Callable[[str], None] | None = None) -> list[Record]:
    """All records of a results folder, in the order of their file names; a copy of a record counts once.

    Args:
        folder: the results folder.
        leave_out: is told of each file that is no whole record, which is then left out; None raises at the first.

    Raises:
        RecordError: the folder is not there or holds no record; a file in it, or one of arrays, is torn, altered or
            foreign; or two records of one cell's id disagree.
    """
    if not folder.is_dir():
        raise RecordError(f"there is no results folder {folder}: run a suite first")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise RecordError(f"{folder} holds no records: run a suite first")
    found: dict[str, tuple[Path, Record]] = {}
    for path in paths:
        try:
            record = read_record(path)
            check_arrays(path, record)
            other, first = found.setdefault(record.cell.id, (path, record))
            if first.digest != record.digest:
                raise RecordError(
                    f"{other} and {path} are both the record of {record.cell.id}, and disagree: delete one"
                )
        except RecordError as error:
            if leave_out is None:
                raise
            leave_out(f"left out: {error}")
    if not found:
        raise RecordError(f"{folder} holds no whole record: run the suite again")
    return [record for _, record in found.values()]


def write_forecasts(folder: Path, forecasts: Iterable[Forecast]) -> None:
    """Put forecasts beside the records; a later one of a cell replaces an earlier.

    Raises:
        OutputError: the folder cannot be written.
    """
    known = read_forecasts(folder) | {forecast.cell: forecast for forecast in forecasts}
    path = folder / FORECASTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{forecast.model_dump_json()}\n" for forecast in known.values()).encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {why(error)}") from None


def read_forecasts(folder: Path) -> dict[str, Forecast]:
    """The forecasts of a results folder, by cell id; empty where none were made.

    Raises:
        RecordError: the file is not one of forecasts.
    """
    path = folder / FORECASTS
    try:
        lines = read_regular(path, RECORD_LIMIT).decode().splitlines() if os.path.lexists(path) else []
        return {forecast.cell: forecast for forecast in map(Forecast.model_validate_json, lines)}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is no file of forecasts: {_first_line(error)}; delete it and plan again") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
