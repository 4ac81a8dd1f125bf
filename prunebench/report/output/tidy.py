"""Measurements in long (tidy) format, for programs: one row each, not averaged, not rounded."""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prunebench.errors import OutputError
from prunebench.files import describe_os_error, write_atomically
from prunebench.records.record import Record
from prunebench.report.budgets import trained_tokens, training_of
from prunebench.text import printable

IDENTITY = ("cell", "model", "method", "sparsity", "allocation", "calibration", "seed", "training", "status", "error")
COLUMNS = (*IDENTITY, "measure", "of", "value", "stderr")


def measurements(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Measurements of records, as rows in long format.

    Yields:
        One row for each measure of each record, with the keys ``COLUMNS``: ``measure`` (perplexity, sparsity,
        prune_seconds, a zero-shot metric …), ``of`` (the protocol or task, else empty), ``value`` and ``stderr`` (None
        if there is none). A record without measures has one row with ``measure`` None.
    """
    for record in records:
        rows = list(_measures(record)) or [(None, "", None, None)]
        for row in rows:
            yield dict(zip(COLUMNS, (*_identity(record), *row), strict=True))


def _identity(record: Record) -> tuple[Any, ...]:
    cell, error = record.cell, record.error
    message = printable(f"{error.type}: {error.message}") if error else None
    corpus = printable(cell.calibration.get("corpus", ""))
    names = (printable(part) for part in (cell.id, cell.model, cell.method, cell.sparsity, cell.allocation))
    return (*names, corpus, cell.seed, training_of(record), record.status, message)


def _measures(record: Record) -> Iterator[tuple[str | None, str, float | None, float | None]]:
    for protocol, perplexity in record.perplexity.items():
        yield "perplexity", printable(protocol), perplexity.value, perplexity.stderr
    tasks, groups = (record.zero_shot.get(part) or {} for part in ("results", "groups"))
    for task, entry in (tasks | groups).items():
        for key, value in entry.items():
            metric, comma, filter_name = key.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
                stderr = entry.get(f"{metric}_stderr,{filter_name}")
                name = metric if filter_name == "none" else key
                yield printable(name), printable(task), value, stderr if isinstance(stderr, int | float) else None
    for label, numbers in record.measures.items():
        for name, number in numbers.items():
            yield printable(name), printable(label), number, None
    if record.sparsity is not None:
        yield "sparsity", "", record.sparsity.reached, None
    for name, amount in effort_measures(record).items():
        yield name, "", amount, None
    for name in type(record.cost).model_fields:
        if (amount := getattr(record.cost, name)) is not None:
            yield name, "", amount, None


EFFORT_MEASURES = ("forward_tokens", "trained_tokens", "flops", "trained_tokens_per_parameter")


def effort_measures(record: Record) -> dict[str, float]:
    """What was counted of the effort of pruning, by the names ``EFFORT_MEASURES``; only what is known."""
    found: dict[str, float] = {}
    if record.effort and all(stage.forward_tokens is not None for stage in record.effort):
        found["forward_tokens"] = sum(stage.forward_tokens or 0 for stage in record.effort)
        found["flops"] = sum(stage.flops or 0.0 for stage in record.effort)
    if (tokens := trained_tokens(record)) is not None:
        found["trained_tokens"] = tokens
        if record.sparsity is not None and record.sparsity.parameters:
            found["trained_tokens_per_parameter"] = tokens / record.sparsity.parameters
    return {name: found[name] for name in EFFORT_MEASURES if name in found}


def to_csv(records: Iterable[Record]) -> str:
    """Measurements as CSV with the columns ``COLUMNS``; numbers that are not finite are written as inf and nan.

    A name that a spreadsheet would read as a formula is prefixed with an apostrophe.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _escape_formula(value) for name, value in row.items()} for row in measurements(records))
    return file.getvalue().rstrip("\n")


def _escape_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def write_parquet(records: Iterable[Record], path: Path) -> None:
    """Write measurements as Parquet with the columns ``COLUMNS``: ``seed`` int64, ``value`` and ``stderr`` float64.

    Raises:
        OutputError: it cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    kinds = {"seed": pyarrow.int64(), "value": pyarrow.float64(), "stderr": pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(list(measurements(records)), schema), content)
        write_atomically(path, content.getbuffer())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {describe_os_error(error)}") from None


def to_plain_json(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Measurements as strict JSON: a number that is not finite is "Infinity", "-Infinity" or "NaN"."""
    return [{name: json_number(value) for name, value in row.items()} for row in measurements(records)]


def json_number(value: Any) -> Any:
    """A value for strict JSON: numbers that are not finite as text, all else unchanged."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
