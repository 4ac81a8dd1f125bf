"""The files of a submission: only those that belong to it, none of them a link, a pipe or a device."""

import os
from collections.abc import Sequence
from pathlib import Path

from prunebench.errors import OutputError
from prunebench.files import irregular
from prunebench.records.record import FORECASTS_FILE, Record
from prunebench.records.saved_models import FORMS, model_folders
from prunebench.records.store import FAILED, refuse_irregular
from prunebench.submission.finding import Finding
from prunebench.submission.manifest import MANIFEST

BESIDE = {"README.md", "LICENSE", MANIFEST, FORECASTS_FILE, "report.html"}


def irregular_files(folder: Path) -> list[Finding]:
    """Links, pipes and devices in a folder and in its saved models, which nothing may follow or read."""
    found = []
    for path in sorted(folder.iterdir()):
        kind = irregular(path) if irregular(path, folder=True) else None
        if kind is not None:
            found.append(Finding(path.name, f"it is {kind}, which a submission may not hold: remove it"))
    try:
        refuse_irregular(folder, FORMS, inside=True)
    except OutputError as error:
        found.append(Finding("saved models", str(error)))
    return found


def unexpected_files(folder: Path, records: Sequence[Record], suite: str) -> list[Finding]:
    """Files that are neither a record, nor arrays or a model that it names, nor one of those that may lie beside them.

    Args:
        folder: the submission.
        records: those that are whole.
        suite: name of its suite file.
    """
    arrays = {name for record in records for name in record.arrays.values()}
    found = []
    for path in sorted(folder.iterdir()):
        name = path.name
        if path.is_dir():
            known = name in FORMS
        else:
            known = name in arrays | BESIDE | {suite} or (name.endswith(".json") and not name.endswith(FAILED))
        if not known and os.path.lexists(path):
            what = "no record names it" if name.endswith(".npz") else "it is no part of a submission"
            found.append(Finding(name, f"{what}: remove it"))
    models = {place for record in records for place in model_folders(folder, record).values()}
    for form in FORMS:
        if (folder / form).is_dir() and not irregular(folder / form, folder=True):
            others = sorted(path for path in (folder / form).iterdir() if path not in models)
            found += [Finding(f"{form}/{path.name}", "no record names it: remove it") for path in others]
    return found
