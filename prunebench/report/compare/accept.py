"""Results that become the baseline of the regression gate ``prunebench compare``."""

from collections.abc import Iterable
from pathlib import Path

from prunebench.errors import OutputError, UsageError
from prunebench.files import describe_os_error, irregular, make_folder
from prunebench.records.array_files import arrays_of
from prunebench.records.arrays import ArrayStore
from prunebench.records.merge import copy_record
from prunebench.records.record import Record
from prunebench.records.store import read_record, read_records, remove
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.verdict import Comparison, Verdict
from prunebench.text import counted


def accept_baseline(results: Path, baseline: Path) -> Comparison | None:
    """Make the records of one folder, with their arrays, those of the baseline.

    What was there before is removed after the new records are whole: an interruption leaves old and new ones, and
    accepting once more ends it. Files that are no records, such as a README, stay; saved models are not copied.

    Args:
        results: a results folder without failed cells.
        baseline: the folder that ``compare`` is given as BASE; created if needed.

    Returns:
        What changed from the old baseline; None where there was none.

    Raises:
        RecordError: a folder is no results folder, or a record in it is not whole.
        UsageError: a cell failed, or cannot be held against that of the old baseline: measured by other protocols, on
            other texts, or of another dense model.
        OutputError: the baseline cannot be written.
    """
    if baseline.exists() and results.resolve() == baseline.resolve():
        raise UsageError(f"{results} and {baseline} are the same folder: name the results that become the baseline")
    records = read_records(results)
    if failed := [record.cell.id for record in records if record.status == "failed"]:
        raise UsageError(
            f"{counted(len(failed), 'cell')} of {results} failed, the first is {failed[0]}: "
            "a baseline holds none; run the suite again"
        )
    if kind := irregular(baseline, folder=True):
        raise OutputError(f"{baseline} is {kind}, where the folder of the baseline belongs: remove it")
    comparison = _compared(results, records, baseline)
    try:
        _replace(results, records, baseline)
    except OSError as error:
        raise OutputError(f"cannot write the baseline {baseline}: {describe_os_error(error)}") from None
    return comparison


def _compared(results: Path, records: list[Record], baseline: Path) -> Comparison | None:
    """The changes, if all that both folders have can be compared."""
    if not baseline.is_dir() or not any(baseline.glob("*.json")):
        return None
    comparison = compare_records(read_records(baseline), records, ArrayStore(baseline), ArrayStore(results))
    advice = f"if that is meant, remove the records of {baseline} and accept again"
    if not comparison.cells:
        raise UsageError(f"{results} and {baseline} have no cell in common: {advice}")
    if refused := [cell for cell in comparison.cells if cell.refused]:
        cell, more = refused[0], f" (and {len(refused) - 1} more cells)" if len(refused) > 1 else ""
        raise UsageError(f"{cell.head.cell.id}{more} is no measurement of the same: {cell.refused[0]}; {advice}")
    return comparison


def _replace(results: Path, records: Iterable[Record], baseline: Path) -> None:
    make_folder(baseline)
    sources: dict[str, Path] = {}
    for path in sorted(results.glob("*.json")):
        record = read_record(path)
        if record.status == "ok":
            sources.setdefault(record.cell.id, path)
    new = {record.cell.id: record for record in records}
    kept = {f"{name}.json" for name in new}
    old = [(path, read_record(path).cell.id) for path in baseline.glob("*.json") if path.name not in kept]
    for name, record in new.items():
        copy_record(sources[name], record, baseline, models=False)
    for path, name in old:
        remove([path, *(arrays_of(baseline, name) if name not in new else ())])


def accepted_line(comparison: Comparison | None, results: Path, baseline: Path, cells: int) -> str:
    """What was accepted, in one line."""
    if comparison is None:
        return f"{baseline} is a new baseline: {counted(cells, 'cell')} of {results}"
    parts = [f"{baseline} holds {counted(cells, 'cell')} of {results} now"]
    for found, what in (
        (comparison.count(Verdict.REGRESSION), "measure is worse"),
        (comparison.count(Verdict.IMPROVEMENT), "measure is better"),
        (len(comparison.only_head), "cell is new"),
        (len(comparison.only_base), "cell is gone"),
    ):
        if found:
            parts.append(counted(found, what, what.replace(" is ", "s are ")))
    return ", ".join(parts)
