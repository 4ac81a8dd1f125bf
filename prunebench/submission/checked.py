"""All checks of a submission, in their order."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prunebench.errors import RecordError
from prunebench.files import irregular, read_regular_file
from prunebench.records.array_files import parsed_arrays
from prunebench.records.canonical_json import strict_json
from prunebench.records.record import FORECASTS_FILE, SCHEMA, Record
from prunebench.records.saved_models import altered_models
from prunebench.records.store import FAILED, RECORD_LIMIT, read_record
from prunebench.submission.finding import Finding
from prunebench.submission.folder import irregular_files, unexpected_files
from prunebench.submission.manifest import MANIFEST, read_manifest
from prunebench.submission.records import record_findings
from prunebench.submission.settings import read_suite, setting_findings
from prunebench.submission.values import value_findings

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Checked:
    """The outcome of a check.

    Args:
        records: those that could be read.
        findings: what is wrong; empty where nothing is.
        measured: cells that were measured again from their weights.
    """

    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    measured: int = 0


def check_submission(
    folder: Path, *, fresh: bool = False, text: Path | None = None, tell: Tell = lambda line: None
) -> Checked:
    """Check a folder that somebody contributes.

    Args:
        folder: a results folder with a ``submission.yaml`` and the suite.
        fresh: also measure again from the saved weights.
        text: a file of text to measure on, in place of text that is generated.
        tell: called with a line for each cell that is measured.

    Raises:
        RecordError: there is no such folder, or it holds no record file.
        UsageError: the text cannot be read.
    """
    if irregular(folder, folder=True) or not folder.is_dir():
        raise RecordError(f"there is no folder {folder}: name a results folder")
    paths = sorted(path for path in folder.glob("*.json") if path.name != FORECASTS_FILE)
    if not paths:
        raise RecordError(f"{folder} holds no records: name a results folder")
    findings = irregular_files(folder)
    manifest, faults = read_manifest(folder)
    findings += faults
    suite, faults = read_suite(folder, manifest.suite) if manifest else (None, [])
    findings += faults
    records: list[Record] = []
    for path in paths:
        if path.name.endswith(FAILED):
            findings.append(Finding(path.name, "a failed cell is no result: run it again, or remove it"))
            continue
        if irregular(path):  # told already
            continue
        record, faults = _read(path)
        findings += faults
        if record is None:
            continue
        records.append(record)
        if suite is not None:
            findings += setting_findings(record, suite)
        findings += [Finding(record.cell.id, fault) for fault in altered_models(folder, record)]
    findings += unexpected_files(folder, records, manifest.suite if manifest else MANIFEST)
    if not fresh:
        return Checked(tuple(records), tuple(findings))
    from prunebench.submission.fresh import Again

    again = Again(folder, text, tell)
    for record in records:
        findings += again.findings(record)
    return Checked(tuple(records), tuple(findings), again.measured)


def _read(path: Path) -> tuple[Record | None, list[Finding]]:
    """A record with what is wrong with it and its arrays; None if it cannot be read."""
    try:
        record = read_record(path)
    except RecordError as error:
        return None, [Finding(path.name, _without(path, error.reason))]
    found = []
    if path.name != f"{record.cell.id}.json":
        found.append(Finding(path.name, f"it is the record of {record.cell.id}: name it so"))
    if _schema(path) != SCHEMA:
        found.append(Finding(path.name, f"its schema is older than {SCHEMA}: run the suite again"))
        return record, found
    if record.status != "ok":
        return None, [*found, Finding(path.name, "a failed cell is no result: run it again, or remove it")]
    found += record_findings(record)
    try:
        arrays = parsed_arrays(path.parent, record)
    except RecordError as error:
        return record, [*found, Finding(record.cell.id, _without(path, error.reason))]
    return record, found + value_findings(record, arrays)


def _schema(path: Path) -> int:
    """The schema that a record was written in; older ones are read as the newest."""
    content = strict_json(read_regular_file(path, RECORD_LIMIT, follow_links=False))
    return int(content["schema"])


def _without(path: Path, message: str) -> str:
    """A message without the folder, which the reader knows."""
    return message.replace(f"{path.parent}/", "")
