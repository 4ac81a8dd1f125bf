"""Tables of what plugins measured."""

import statistics
from collections.abc import Sequence

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, baselines_of, group_by, method_order, records_by_setting, sparsity_order
from prunebench.report.tables.table import Table, caption, seeds_text


def measure_tables(records: Sequence[Record], order: Sequence[str] = ()) -> list[Table]:
    """Methods × sparsities, a table for each number of each plugin's evaluation; the dense model in the caption.

    Args:
        records: of one model.
        order: see ``all_tables``.
    """
    found = dict.fromkeys(
        (label, name) for record in records for label, part in record.measures.items() for name in part
    )
    tables = []
    for label, name in found:
        for setting, group in records_by_setting(records).items():
            base = baselines_of(records, setting)
            cells = group_by(
                [record for record in group if record.cell.method not in base],
                lambda record: (record.cell.method, record.cell.sparsity),
            )
            columns = sparsity_order(sparsity for _, sparsity in cells)
            dense = [f"{method} {_mean([base[method]], label, name)}" for method in method_order(base.values(), order)]
            title = f"{label}: {name}, of {setting.model}"
            rows = tuple(
                (method, *(_mean(cells.get((method, sparsity), []), label, name) for sparsity in columns))
                for method in method_order((record for some in cells.values() for record in some), order)
            )
            words = (", ".join(dense), setting.describe([setting]), seeds_text(cells.values(), "standard deviation"))
            tables.append(Table(caption(title, *words), ("method", *(columns or [DENSE])), rows))
    return tables


def _mean(records: Sequence[Record], label: str, name: str) -> str:
    """Mean ± standard deviation over seeds."""
    values = [found for record in records if (found := record.measures.get(label, {}).get(name)) is not None]
    if not values:
        return text.FAILED if any(record.status == "failed" for record in records) else text.MISSING
    mean = statistics.fmean(values)
    spread = f" ± {text.number(statistics.stdev(values), like=mean)}" if len(values) > 1 else ""
    return text.number(mean) + spread
