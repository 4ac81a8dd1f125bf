"""Tables of the numbers that evaluation plugins measured."""

import statistics
from collections.abc import Sequence

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, baselines_of, group_by, method_order, records_by_setting, sparsity_order
from prunebench.report.tables.table import Table, caption, seeds_text
from prunebench.report.tuning import tuning_caption


def measure_tables(records: Sequence[Record], order: Sequence[str] = ()) -> list[Table]:
    """Methods × sparsities, one table for each number of each evaluation; the dense model is in the caption.

    Args:
        records: records of one model.
        order: see ``prunebench.report.sections.all_tables``.
    """
    measures = dict.fromkeys(
        (label, name) for record in records for label, part in record.measures.items() for name in part
    )
    tables = []
    for label, name in measures:
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
                for method in method_order((record for seeds in cells.values() for record in seeds), order)
            )
            caption_parts = (
                ", ".join(dense),
                setting.describe([setting]),
                seeds_text(cells.values(), "standard deviation"),
                tuning_caption([*base.values(), *group]),
            )
            tables.append(Table(caption(title, *caption_parts), ("method", *(columns or [DENSE])), rows))
    return tables


def _mean(records: Sequence[Record], label: str, name: str) -> str:
    """Mean ± standard deviation over seeds, as text."""
    values = [value for record in records if (value := record.measures.get(label, {}).get(name)) is not None]
    if not values:
        return text.FAILED if any(record.status == "failed" for record in records) else text.MISSING
    mean = statistics.fmean(values)
    spread = f" ± {text.number(statistics.stdev(values), like=mean)}" if len(values) > 1 else ""
    return text.number(mean) + spread
