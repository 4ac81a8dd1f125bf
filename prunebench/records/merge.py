"""Merging several results folders, such as those of shards, into one."""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunebench.errors import OutputError
from prunebench.files import atomic_replacement, discard_tree, irregular, make_folder, sync_file, sync_folder
from prunebench.records.record import Record
from prunebench.records.saved_models import FORMS, altered_models, files_in, model_folders
from prunebench.records.store import (
    check_arrays,
    read_forecasts,
    read_record,
    record_path,
    refuse_irregular,
    remove,
    superseded,
    write_forecasts,
)

OUTCOME_PARTS = ("status", "sparsity", "perplexity", "zero_shot", "measures")


@dataclass(frozen=True)
class Conflict:
    """A cell whose records in two folders disagree.

    Args:
        cell: the cell's id.
        differs: the first part of the record that differs.
        taken, left: the record that was merged, and the one that was not.
    """

    cell: str
    differs: str
    taken: Path
    left: Path


@dataclass(frozen=True)
class MergeResult:
    """The result of a merge.

    Args:
        cells: number of cells in the output folder now.
        copied: number of records that it did not have before.
        conflicts: cells whose records disagree.
    """

    cells: int
    copied: int
    conflicts: tuple[Conflict, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        conflicts = [{name: str(value) for name, value in asdict(conflict).items()} for conflict in self.conflicts]
        return {"cells": self.cells, "copied": self.copied, "conflicts": conflicts}


def merge_records(folders: Iterable[Path], output: Path) -> MergeResult:
    """Merge results folders into one.

    Every record is read and checked before any is copied. A successful record goes before a failed one; of two that
    disagree the first is taken, where records already in ``output`` come first.

    Args:
        folders: the folders to merge; they are not changed.
        output: the folder that receives all records; created if needed.

    Raises:
        RecordError: a file in a folder is not a valid record.
        OutputError: a folder is missing, or the output cannot be written.
    """
    chosen: dict[str, tuple[Path, Record]] = {}
    conflicts = []
    existing = [output] if output.is_dir() else []
    for folder in dict.fromkeys(path.resolve() for path in (*existing, *folders)):
        if not folder.is_dir():
            raise OutputError(f"there is no results folder {folder}: name those that run has made")
        for path in sorted(folder.glob("*.json")):
            record = read_record(path)
            check_arrays(path, record)
            if altered := altered_models(folder, record):
                raise OutputError(f"{altered[0]}; remove it, or run the suite again with --save-models")
            first, known = chosen.setdefault(record.cell.id, (path, record))
            if known.status == "failed" and record.status == "ok":
                chosen[record.cell.id] = (path, record)
            elif known.status == record.status and (part := _difference(known, record)):
                conflicts.append(Conflict(record.cell.id, part, first, path))
    if not chosen:
        raise OutputError(f"no records in {', '.join(map(str, folders))}: name folders that run has made")
    copied = [(path, record) for path, record in chosen.values() if path.parent != output.resolve()]
    refuse_irregular(output, FORMS)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path, record in copied:
            copy_record(path, record, output)
    except OSError as error:
        raise OutputError(f"cannot write to {output}: {error.strerror}; free some room, or choose another") from None
    write_forecasts(output, [known for folder in folders for known in read_forecasts(folder).values()])
    return MergeResult(len(chosen), len(copied), tuple(conflicts))


def _difference(first: Record, second: Record) -> str | None:
    """The first part of the outcome that differs; cost, time and machine are not part of it."""
    if first.status == "failed":
        return None
    for part in OUTCOME_PARTS:
        if repr(getattr(first, part)) != repr(getattr(second, part)):  # NaN differs from itself
            return part
    digests = [record.environment.get("weights_digest") for record in (first, second)]
    return "weights_digest" if digests[0] != digests[1] else None


def copy_record(path: Path, record: Record, output: Path, *, models: bool = True) -> None:
    """Copy a record with its model and arrays; the record last, because its presence means that all is there.

    The copy is named by the cell's id, whatever the file was called.

    Args:
        path: the record's file.
        record: what it holds; its arrays are checked already.
        output: the folder that gets it.
        models: whether a saved model is copied too.

    Raises:
        OutputError: a link, a pipe or a device is in the place of a file.
        OSError: the folder cannot be written.
    """
    for form, model in model_folders(path.parent, record).items() if models else ():
        if model.is_dir():
            _copy_model(model, output / form)
    for source, target in (
        *((path.parent / file, output / file) for file in record.arrays.values()),
        (path, record_path(output, record)),
    ):
        if kind := irregular(target):
            raise OutputError(f"cannot write {target}: it is {kind}; remove it")
        with atomic_replacement(target) as temporary:
            shutil.copyfile(source, temporary)
    remove(superseded(output, record))


def _copy_model(model: Path, parent: Path) -> None:
    make_folder(parent)
    temporary = parent / f".{model.name}.merge.tmp"
    discard_tree(temporary)
    make_folder(temporary)
    for file in files_in(model):
        copy = temporary / file.relative_to(model)
        make_folder(copy.parent)
        shutil.copyfile(file, copy)
        sync_file(copy)
    discard_tree(parent / model.name)
    temporary.rename(parent / model.name)
    sync_folder(parent)
