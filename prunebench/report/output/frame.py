"""Measurements as rows for a data frame: one row each, beside everything that tells its cell from others."""

from collections.abc import Iterable, Iterator
from typing import Any

from prunebench.records.record import Cost, Record
from prunebench.report.budgets import training_of
from prunebench.report.output.tidy import EFFORT_MEASURES, effort_measures, measurements

FRAME_COLUMNS = {
    "cell": "the cell's id",
    "model": "label of the model",
    "method": "label of the method's entry",
    "options": "the method's options, a mapping, defaults included",
    "sparsity": "the fraction of zeros asked for, a number: 2:4 is 0.5, dense 0.0",
    "pattern": "the sparsity as it was written: 0.9, 2:4",
    "reached": "the fraction of zeros counted in the prunable matrices",
    "allocation": "how the zeros were shared out among layers",
    "calibration": "name of the calibration corpus",
    "seed": "the seed",
    "training": "how it was trained while it was pruned: one-shot, block-wise, end to end, or not measured",
    "status": "ok or failed",
    "error": "what ended a failed cell, else None",
    "measure": "what was measured: perplexity, or the metric of a task or evaluation; None in a failed cell",
    "of": "its protocol, task or label",
    "value": "the value, a number",
    "stderr": "its standard error; NaN or None where there is none",
    "forward_tokens": "effort: tokens that went forward through the model, or through a block by its share",
    "trained_tokens": "effort: tokens that went backward; of old records only where it cannot be other than 0",
    "flops": "effort: operations of both, estimated from the parameters that were passed through",
    "trained_tokens_per_parameter": "effort: trained_tokens divided by the number of parameters",
    "prune_seconds": "cost: duration of the allocation and of the call of the method",
    "evaluate_seconds": "cost: duration of all evaluations",
    "peak_bytes": "cost: peak memory while pruning",
    "tokens_seen": "cost: calibration tokens that the method used",
    "state_bytes": "cost: weights and optimiser state, where the method reports it",
    "device": "the processor or GPU",
    "threads": "number of threads",
    "torch": "version of torch",
    "commit": "git commit of prunebench; None for an installed package",
    "started": "when the cell began, ISO 8601 in UTC",
}
"""Each column, and what it holds."""

_COSTS = tuple(Cost.model_fields)


def frame_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Measurements of records, a row for each; a cell without any has one row with ``measure`` None.

    Args:
        records: of any models, methods and settings.

    Yields:
        Rows with the keys of ``FRAME_COLUMNS``. What a cell cost stands in columns of its rows, not in rows.
    """
    for record in records:
        own = _columns(record)
        rows = [row for row in measurements([record]) if row["measure"] not in (*_COSTS, *EFFORT_MEASURES, "sparsity")]
        for row in rows or [{"measure": None, "of": "", "value": None, "stderr": None, "error": None}]:
            yield {name: {**row, **own}.get(name) for name in FRAME_COLUMNS}


def _columns(record: Record) -> dict[str, Any]:
    cell, environment, counts = record.cell, record.environment, record.sparsity
    return {
        "cell": cell.id,
        "model": cell.model,
        "method": cell.method,
        "options": dict(cell.options),
        "sparsity": counts.requested if counts else _ratio(cell.sparsity),
        "pattern": cell.sparsity,
        "reached": counts.reached if counts else None,
        "allocation": cell.allocation,
        "calibration": cell.calibration.get("corpus"),
        "seed": cell.seed,
        "training": training_of(record),
        "status": record.status,
        "error": f"{record.error.type}: {record.error.message}" if record.error else None,
        **effort_measures(record),
        **{name: getattr(record.cost, name) for name in _COSTS},
        "device": environment.get("device"),
        "threads": environment.get("threads"),
        "torch": (environment.get("versions") or {}).get("torch"),
        "commit": environment.get("git_commit"),
        "started": environment.get("started"),
    }


def _ratio(sparsity: str) -> float | None:
    """The fraction of zeros that a text asks for, 0.9 or 2:4 (n kept of every m)."""
    first, colon, second = sparsity.partition(":")
    try:
        return 1 - float(first) / float(second) if colon else float(first)
    except (ValueError, ZeroDivisionError):
        return None
