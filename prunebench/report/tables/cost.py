"""Tables of the cost of pruning and of the sizes of saved models."""

from collections.abc import Callable, Iterable, Sequence

from prunebench import text
from prunebench.records.record import Cost, Record
from prunebench.report.grouping import DENSE
from prunebench.report.scene import Scene
from prunebench.report.tables.table import Table, caption
from prunebench.report.tuning import tuning_cost


def cost_tables(scenes: Sequence[Scene]) -> list[Table]:
    """Time, tokens and memory of each method, as ranges over its sparsities and seeds.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
    """
    tables = []
    for scene in scenes:
        pruned = scene.where(lambda record: record.status == "ok" and record.cell.sparsity != DENSE)
        state = any(record.cost.state_bytes is not None for record in pruned.pruned_records)
        devices = {_device(record) for record in pruned.pruned_records}
        device = devices.pop() if len(devices) == 1 else ""
        tables.append(
            Table(
                caption(f"Cost of pruning {scene.model}", scene.description, device, tuning_cost(scene.records)),
                ("method", "cells", "prune time", "tokens seen", "peak memory", *(["method state"] if state else [])),
                tuple(_cost_row(method, group, state=state) for method, group in pruned.by_method.items()),
            )
        )
    return tables


def _cost_row(method: str, records: Sequence[Record], *, state: bool) -> tuple[str, ...]:
    def range_of(amount: Callable[[Cost], float | None], show: Callable[[float], str]) -> str:
        return text.span((amount(record.cost) for record in records), show)

    return (
        method,
        str(len(records)),
        range_of(lambda cost: cost.prune_seconds, text.seconds),
        range_of(lambda cost: cost.tokens_seen, text.count),
        range_of(lambda cost: cost.peak_bytes, text.size),
        *((range_of(lambda cost: cost.state_bytes, text.size),) if state else ()),
    )


def _device(record: Record) -> str:
    device, threads = record.environment.get("device"), record.environment.get("threads")
    return ", ".join([*([str(device)] if device else []), *([f"threads: {threads}"] if threads else [])])


def size_table(records: Iterable[Record]) -> Table:
    """Bytes of saved models: ordinary checkpoint, compact form, and the information-theoretic minimum."""
    rows = []
    for record in records:
        if record.saved is not None:
            cell, saved = record.cell, record.saved
            ratio = f"{saved.sparse_bytes / saved.dense_bytes:.3f}"
            sizes = (saved.dense_bytes, saved.sparse_bytes, saved.bound_bytes)
            excess = f"{100 * (saved.sparse_bytes / saved.bound_bytes - 1):.1f} %"
            rows.append((cell.model, cell.method, cell.sparsity, str(cell.seed), *map(text.size, sizes), ratio, excess))
    return Table(
        "Sizes of saved weights; least: entropy of the masks plus the kept values",
        ("model", "method", "sparsity", "seed", "dense", "compact", "least", "compact / dense", "above least"),
        tuple(rows),
    )
