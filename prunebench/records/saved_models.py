"""The saved models of a results folder: where each form is, and whether it is what the record says."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from prunebench.files import irregular
from prunebench.records.canonical_json import content_digest
from prunebench.records.record import MODELS_FOLDER, SPARSE_FOLDER, Record, SavedFacts, is_model_name

FORMS = (MODELS_FOLDER, SPARSE_FOLDER)
CARD = "README.md"  # written after the record, from the record


def model_folders(output: Path, record: Record) -> dict[str, Path]:
    """Where the forms of a record's model are, or were: by form; empty if it was not saved."""
    if record.saved is None:
        return {}
    names = {form: saved.folder for form, saved in record.saved.forms.items()}
    return {form: output / form / names.get(form, record.cell.id) for form in FORMS}  # type: ignore[call-overload]


def folder_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of a folder's files, those of folders in it included, but for the model card.

    Raises:
        OSError: it is missing or cannot be read, or holds a link, a pipe or a device.
    """
    digests = {}
    for path in files_in(folder):
        if path != folder / CARD:
            with path.open("rb") as file:
                digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return content_digest(digests)


def files_in(folder: Path) -> list[Path]:
    """The files of a folder and of those in it, sorted.

    Raises:
        OSError: it is missing, or holds a link, a pipe or a device; ``strerror`` names it.
    """
    found, pending = [], [folder]
    while pending:  # no recursion: a folder from elsewhere may be deep
        for path in pending.pop().iterdir():
            if not irregular(path, folder=True):
                pending.append(path)
            elif kind := irregular(path):
                raise OSError(0, f"{path} is {kind}")
            else:
                found.append(path)
    return sorted(found)


def is_saved(output: Path, record: Record) -> bool:
    """Whether both forms of a record's model are there and are what the record says."""
    return len(whole_models(output, record)) == len(FORMS)


def whole_models(output: Path, record: Record | None) -> dict[str, str]:
    """By form, the name of the folder of a good record's model, where it is there and is what the record says."""
    if record is None or record.status != "ok":
        return {}
    return {
        form: folder.name
        for form, folder in model_folders(output, record).items()
        if (folder / "config.json").is_file() and _damage(folder, form, record) is None
    }


def altered_models(output: Path, record: Record) -> list[str]:
    """What is wrong with the saved models of a record that are there, a sentence each.

    One that is not there is no damage: results are often kept without their models.
    """
    folders = model_folders(output, record).items()
    found = [_damage(folder, form, record) for form, folder in folders if os.path.lexists(folder)]
    return [message for message in found if message is not None]


def _damage(folder: Path, form: str, record: Record) -> str | None:
    """What is wrong with one form; records of schema 1 hold no digest of theirs."""
    saved = record.saved.forms.get(form) if record.saved else None  # type: ignore[call-overload]
    try:
        if kind := irregular(folder.parent, folder=True) or irregular(folder, folder=True):
            raise OSError(0, f"it is {kind}")
        digest = folder_digest(folder)
    except OSError as error:
        return f"{folder} is no saved model: {error.strerror or error}"
    if saved is not None and digest != saved.digest:
        return f"{folder} is not the model of its record: it was altered after it was saved"
    return None


def superseded_models(output: Path, cell: str, saved: SavedFacts) -> list[Path]:
    """The folders of a cell's earlier models, which a record that names others makes obsolete."""
    return [path for form, own in saved.forms.items() for path in _others(output / form, cell, own.folder)]


def _others(folder: Path, cell: str, name: str) -> Iterable[Path]:
    if irregular(folder, folder=True) or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if is_model_name(path.name, cell) and path.name != name]
