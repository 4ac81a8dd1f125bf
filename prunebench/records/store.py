"""Reading and writing of records, their arrays and forecasts; written atomically, checked by digest when read."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from prunebench.errors import OutputError, RecordError, first_line
from prunebench.files import (
    MEBIBYTE,
    Fence,
    describe_os_error,
    irregular,
    make_folder,
    read_regular_file,
    remove_tree,
    write_atomically,
)
from prunebench.records.array_files import arrays_of, parsed_arrays, read_contents, write_arrays
from prunebench.records.canonical_json import content_digest, strict_json
from prunebench.records.record import FORECASTS_FILE, SCHEMA, Forecast, Record
from prunebench.records.saved_models import files_in, superseded_models
from prunebench.records.schema1 import upgraded

# Bytes: a hundred times what the largest models need.
RECORD_LIMIT = 256 * MEBIBYTE

FAILED = ".failed.json"


def record_path(folder: Path, record: Record) -> Path:
    """Where a record belongs: ``<cell id>.json``; if it failed ``<cell id>.failed.json``, beside a good one."""
    return folder / f"{record.cell.id}{FAILED if record.status == 'failed' else '.json'}"


def write_record(folder: Path, record: Record, arrays: Mapping[str, np.ndarray], *, fence: Fence | None = None) -> Path:
    """Write a record, and before it the file of arrays that it names by digest; each atomically and flushed to disk.

    The renaming of the record is the moment at which the new outcome takes the place of the old: until then the old
    record and its arrays are as they were, and only then are they removed. A failed record has no arrays and replaces
    only a failed one.

    Args:
        folder: the results folder; created if needed.
        record: the record. One that names ``arrays``, with no new ones given, keeps them.
        arrays: by name, ``perplexity/<protocol>/losses`` (float64, (sequences,), summed nats) and ``…/counts`` (int64,
            (sequences,), predicted tokens); ``zero_shot/<task>/<metric>`` (questions,); ``mask``, see
            ``prunebench.runner.mask_sample``.
        fence: asked immediately before the record is renamed into place.

    Returns:
        The path of the record.

    Raises:
        OutputError: the folder cannot be written.
        Abandoned: the fence said no; the old record is as it was.
    """
    path = record_path(folder, record)
    try:
        make_folder(folder)
        if kind := irregular(path):
            raise OSError(0, f"it is {kind}; remove it")
        if record.status == "failed":
            record = record.model_copy(update={"arrays": {}})
        elif arrays:
            record = record.model_copy(update={"arrays": write_arrays(folder, record.cell.id, arrays)})
        old = superseded(folder, record)  # before the renaming: what comes later is another's
        write_atomically(path, record_to_json(record).encode(), fence)
        if fence is None or fence():
            remove(old)
    except OSError as error:
        raise OutputError(f"cannot write the record {path}: {describe_os_error(error)}") from None
    except ValueError as error:  # such as an option nested too deeply to be read again
        raise OutputError(f"cannot write the record {path}: {first_line(error)}") from None
    return path


def superseded(folder: Path, record: Record) -> list[Path]:
    """What a new record of a cell makes obsolete: arrays and models that it does not name, and a failed record.

    A record without a model leaves the one of an earlier record alone.
    """
    if record.status == "failed":
        return []
    old = [path for path in arrays_of(folder, record.cell.id) if path.name not in record.arrays.values()]
    failed = folder / f"{record.cell.id}{FAILED}"
    if record.saved is not None:
        old += superseded_models(folder, record.cell.id, record.saved)
    return [*old, *([failed] if os.path.lexists(failed) else [])]


def refuse_irregular(folder: Path, names: Iterable[str], *, inside: bool = False) -> None:
    """Refuse a results folder in which a folder's place is taken by a link, which would lead elsewhere.

    Args:
        folder: the results folder, or one in it.
        names: of the folders in it.
        inside: refuse links, pipes and devices in those folders too.

    Raises:
        OutputError: one of them is there and is no folder, or holds what is no file.
    """
    for name in names:
        if kind := irregular(folder / name, folder=True):
            raise OutputError(f"{folder / name} is {kind}, where prunebench keeps a folder: remove it")
        if inside and (folder / name).is_dir():
            try:
                files_in(folder / name)
            except OSError as error:
                raise OutputError(f"{folder / name}: {error.strerror or error}; remove it") from None


def remove(paths: Iterable[Path]) -> None:
    """Remove files, and folders with all that is in them; a link is removed itself."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def record_to_json(record: Record) -> str:
    """A record as the text of its JSON file, with its digest."""
    text = record.model_copy(update={"digest": None}).model_dump_json(by_alias=True)
    content = strict_json(text.encode())
    del content["digest"]
    digest = content_digest(content)
    return record.model_copy(update={"digest": digest}).model_dump_json(by_alias=True, indent=1) + "\n"


def read_record(path: Path) -> Record:
    """Read one record; one of schema 1 is read as one of schema 2.

    Args:
        path: a record's JSON file.

    Raises:
        RecordError: the file is not a record, was altered, or has another schema version.
    """
    try:
        content = strict_json(read_regular_file(path, RECORD_LIMIT, follow_links=False))
    except OSError as error:
        raise RecordError(f"cannot read the record {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise RecordError(
            f"{path} is no record: it is not valid JSON ({first_line(error)})", "delete it and run the suite again"
        ) from None
    if not isinstance(content, dict) or type(content.get("schema")) is not int:
        raise RecordError(f"{path} is no record of prunebench: it has no schema number")
    if not 1 <= content["schema"] <= SCHEMA:
        newer = content["schema"] > SCHEMA
        advice = f"newer than {SCHEMA}: update prunebench" if newer else f"where {SCHEMA} is valid: run the suite again"
        raise RecordError(f"{path} has schema {content['schema']}, {advice}")
    _check_digest(path, content)
    try:
        return Record.model_validate(upgraded(content) if content["schema"] == 1 else content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is no valid record: {field}: {first['msg']}") from None


def _check_digest(path: Path, content: dict[str, Any]) -> None:
    advice = "fetch it again, or delete it and run the suite again"
    if not isinstance(content.get("digest"), str):
        raise RecordError(f"{path} has no digest, so nobody knows whether it is whole", advice)
    try:
        digest = content_digest({name: value for name, value in content.items() if name != "digest"})
    except ValueError as error:
        raise RecordError(f"{path} is no record: {first_line(error)}", advice) from None
    if digest != content["digest"]:
        raise RecordError(f"{path} was altered after it was written: its digest does not match", advice)


def check_arrays(path: Path, record: Record) -> None:
    """Check by digest, without parsing them, that a record's arrays are those it was written with.

    Args:
        path: the record's file.
        record: what it holds.

    Raises:
        RecordError: a file of arrays is missing or altered.
    """
    read_contents(path.parent, record)


def read_arrays(path: Path, record: Record | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of a record.

    Args:
        path: the record's file (not that of the arrays).
        record: what it holds, if it was read already.

    Returns:
        One-dimensional arrays by name; empty if the record has none.

    Raises:
        RecordError: the record is invalid, or a file of arrays is missing, truncated or altered.
    """
    return parsed_arrays(path.parent, record or read_record(path))


def read_latest(folder: Path, name: str) -> Record:
    """Read the record of a cell's last attempt, which may have failed although an earlier one went well.

    Args:
        folder: the results folder.
        name: the cell's id.

    Raises:
        RecordError: there is no valid record.
    """
    failed = folder / f"{name}{FAILED}"
    return read_record(failed if os.path.lexists(failed) else folder / f"{name}.json")


def read_records(folder: Path, leave_out: Callable[[str], None] | None = None) -> list[Record]:
    """Read the records of a results folder, one for each cell, in the order of their file names.

    A copy of a record counts once; a failed record counts only where the cell has no good one.

    Args:
        folder: the results folder.
        leave_out: called with a message for each invalid record, which is then skipped; None raises at the first.

    Raises:
        RecordError: the folder is missing or has no valid record; or, without ``leave_out``, a record or its arrays are
            invalid, or two records of one cell disagree.
    """
    if not folder.is_dir():
        raise RecordError(f"there is no results folder {folder}: run a suite first")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise RecordError(f"{folder} holds no records: run a suite first")
    by_id: dict[str, tuple[Path, Record]] = {}
    for path in paths:
        try:
            record = read_record(path)
            check_arrays(path, record)
            known_path, known = by_id.setdefault(record.cell.id, (path, record))
            if known.status == "failed" and record.status == "ok":
                by_id[record.cell.id] = (path, record)
            elif known.status == record.status == "ok" and known.digest != record.digest:
                raise RecordError(
                    f"{known_path} and {path} are both the record of {record.cell.id}, and disagree: delete one"
                )
        except RecordError as error:
            if leave_out is None:
                raise
            leave_out(f"left out: {error}")
    if not by_id:
        raise RecordError(f"{folder} holds no whole record: run the suite again")
    return [record for _, record in by_id.values()]


def write_forecasts(folder: Path, forecasts: Iterable[Forecast]) -> None:
    """Add forecasts to those of a results folder; a newer one of a cell replaces the older.

    Raises:
        OutputError: the folder cannot be written.
    """
    known = read_forecasts(folder) | {forecast.cell: forecast for forecast in forecasts}
    path = folder / FORECASTS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{forecast.model_dump_json()}\n" for forecast in known.values()).encode())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {describe_os_error(error)}") from None


def read_forecasts(folder: Path) -> dict[str, Forecast]:
    """Read the forecasts of a results folder, by cell id; empty if there are none.

    Raises:
        RecordError: the file of forecasts is invalid.
    """
    path = folder / FORECASTS_FILE
    try:
        content = read_regular_file(path, RECORD_LIMIT, follow_links=False) if os.path.lexists(path) else b""
        lines = content.decode().splitlines()
        return {forecast.cell: forecast for forecast in map(Forecast.model_validate_json, lines)}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is no file of forecasts: {first_line(error)}; delete it and plan again") from None
