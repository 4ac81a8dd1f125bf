"""The tables of a report, one module each."""

from collections.abc import Sequence

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.grouping import group_by, latest_records, method_styles
from prunebench.report.tables.cells import failure_table, left_out_table, note_table
from prunebench.report.tables.cost import cost_tables, size_table
from prunebench.report.tables.forecasts import forecast_tables
from prunebench.report.tables.mask_overlap import overlap_tables
from prunebench.report.tables.other_texts import other_text_tables
from prunebench.report.tables.perplexity import perplexity_tables
from prunebench.report.tables.plugin_measures import measure_tables
from prunebench.report.tables.published import published_table
from prunebench.report.tables.table import Table
from prunebench.report.tables.zero_shot import zero_shot_tables

__all__ = ["all_tables"]


def all_tables(
    records: Sequence[Record], order: Sequence[str] = (), array_store: ArrayStore | None = None
) -> list[Table]:
    """Everything a report says: for each model perplexities, zero-shot tasks, masks and costs; then the rest.

    Args:
        records: what to report on. Models and protocols keep the order in which they appear.
        order: methods in the order to show them; the rest follow by name.
        array_store: the arrays beside the records; without them nothing is marked as best.

    Returns:
        Tables that have rows.
    """
    shown, left_out = latest_records(records)
    tables: list[Table] = []
    for of_model in group_by(shown, lambda record: record.cell.model).values():
        tables += perplexity_tables(of_model, order, array_store)
        tables += zero_shot_tables(of_model, order, array_store)
        tables += measure_tables(of_model, order)
        tables += overlap_tables(of_model, order, array_store)
        tables += cost_tables(of_model, order)
    tables += other_text_tables(shown, method_styles(shown, order))
    tables += forecast_tables(shown, array_store.forecasts() if array_store else {}, order)
    tables += [
        size_table(shown),
        published_table(shown),
        failure_table(shown),
        note_table(shown, order),
        left_out_table(left_out),
    ]
    return [table for table in tables if table.rows]
