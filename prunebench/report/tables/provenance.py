"""Tables of provenance: machines, versions, models, methods, texts, and all cells with digests of their weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import group_by
from prunebench.report.tables.table import Table

LAST_OF_CELLS = ("started", "weights", "record")
MOST_TEXTS = 3  # whose perplexities the table of all cells has
DIGITS = 16  # of a digest shown in a table; records have all of them


def provenance_tables(records: Sequence[Record]) -> list[Table]:
    """Tables of environments, models, methods with their options, and texts.

    Args:
        records: all records of the report.
    """
    return [_environments(records), _models(records), _methods(records), _texts(records)]


def _environments(records: Sequence[Record]) -> Table:
    def machine(record: Record) -> tuple[str, ...]:
        facts = record.environment
        versions = facts.get("versions") or {}
        return (
            *(_shown(facts.get(name)) for name in ("device", "threads", "platform")),
            ", ".join(f"{name} {version}" for name, version in versions.items() if version) or text.MISSING,
            _shown(facts.get("git_commit"))[:DIGITS],
        )

    rows = []
    for facts, group in group_by(records, machine).items():
        started = sorted(str(record.environment.get("started") or "") for record in group)
        rows.append((*facts, str(len(group)), started[0] or text.MISSING, started[-1] or text.MISSING))
    return Table(
        "Environments", ("device", "threads", "platform", "versions", "commit", "cells", "first", "last"), tuple(rows)
    )


def _models(records: Iterable[Record]) -> Table:
    def model(record: Record) -> tuple[str, ...]:
        cell, extra = record.cell, record.cell.model_extra or {}
        digest = record.environment.get("model_digest") or extra.get("model_digest")
        return (
            cell.model,
            _shown(extra.get("source")),
            _shown(cell.revision),
            _shown(extra.get("dtype")),
            _short(digest),
        )

    return Table("Models", ("model", "source", "revision", "dtype", "digest"), _distinct(records, model))


def _methods(records: Iterable[Record]) -> Table:
    def method(record: Record) -> tuple[str, ...]:
        cell, extra = record.cell, record.cell.model_extra or {}
        distribution = " ".join(str(extra[name]) for name in ("distribution", "version") if extra.get(name))
        plugins = "+".join(stage.plugin for stage in cell.stages) if len(cell.stages) > 1 else extra.get("plugin")
        options = "; ".join(
            ", ".join(f"{name}={value}" for name, value in stage.options.items()) for stage in cell.stages
        )
        return (cell.method, _shown(plugins), _shown(distribution), _shown(options.strip("; ")))

    return Table("Methods", ("method", "plugin", "distribution", "options"), _distinct(records, method))


def _texts(records: Iterable[Record]) -> Table:
    def parts(record: Record) -> list[tuple[str, dict[str, Any]]]:
        measured = [part for part in record.cell.evaluations if "protocol" in part]
        return [("calibration", record.cell.calibration), *(("perplexity", part) for part in measured)]

    rows = dict.fromkeys(
        (use, *(_shown(part.get(name)) for name in ("corpus", "source", "split", "windows", "seqlen", "nsamples")),
         _short(part.get("digest")))
        for record in records
        for use, part in parts(record)
    )  # fmt: skip
    return Table(
        "Texts", ("use", "corpus", "source", "split", "windows", "seqlen", "nsamples", "digest"), tuple(sorted(rows))
    )


def cell_table(records: Sequence[Record]) -> Table:
    """All cells: what was measured, what it took, then digests and names of records.

    Args:
        records: all records of the report.
    """
    protocols = list(dict.fromkeys(name for record in records for name in record.perplexity))[:MOST_TEXTS]

    def measured(record: Record) -> tuple[str, ...]:
        found = (record.perplexity.get(protocol) for protocol in protocols)
        seconds = record.cost.prune_seconds
        return (
            *(text.MISSING if facts is None else text.number(facts.value) for facts in found),
            text.MISSING if seconds is None else text.seconds(seconds),
            f"{record.sparsity.reached:.6f}" if record.sparsity else text.MISSING,
        )

    return Table(
        "Cells",
        (*("model", "method", "sparsity", "seed", "status"), *protocols, "prune time", "zeros", *LAST_OF_CELLS),
        tuple(
            (
                cell.model,
                cell.method,
                cell.sparsity,
                str(cell.seed),
                record.status,
                *measured(record),
                _shown(record.environment.get("started")),
                _short(record.environment.get("weights_digest")),
                cell.id,
            )
            for record in records
            for cell in (record.cell,)
        ),
    )


def _distinct(records: Iterable[Record], row: Callable[[Record], tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(row(record) for record in records))


def _shown(value: object) -> str:
    return text.MISSING if value is None or value == "" else text.printable(value)


def _short(digest: object) -> str:
    return _shown(digest)[:DIGITS]
