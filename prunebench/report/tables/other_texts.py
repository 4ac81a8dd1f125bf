"""Tables of perplexity on several texts, to see how far the calibration text matters."""

from collections.abc import Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.averages import mean_perplexity
from prunebench.report.budgets import GROUPS, HEADERS, by_group, columns_of, group_of
from prunebench.report.grouping import DENSE, evaluation_texts, group_by, measured_on, setting_groups, text_title
from prunebench.report.tables.best import GROUPED_CAPTION, marks_by_group, marks_caption
from prunebench.report.tables.table import Table, caption
from prunebench.report.tuning import tuning_caption


def other_text_tables(
    records: Sequence[Record], styles: dict[str, int], array_store: ArrayStore | None = None
) -> list[Table]:
    """Methods and sparsities × texts: the perplexity, and its ratio to the dense model's.

    Args:
        records: those to show; see ``prunebench.report.grouping.latest_records``.
        styles: see ``prunebench.report.styles.method_styles``.
        array_store: the arrays of the records; without them nothing is marked as best.

    Returns:
        One table for each model and setting measured on at least two texts.
    """
    tables = []
    for setting_group in setting_groups([record for record in records if len(record.perplexity) > 1]):
        dense = next(iter(setting_group.baselines.values()), None)
        by_method = group_by(setting_group.records, lambda record: record.cell.method)
        groups = [[record] for record in setting_group.baselines.values()]
        groups += [
            setting_group.entries[method, sparsity]
            for method in setting_group.methods(styles)
            for sparsity in setting_group.sparsities
            if (method, sparsity) in setting_group.entries
        ]
        kinds = [group_of(by_method[group[0].cell.method]) for group in groups]
        groups = [groups[row] for row in by_group(kinds)]
        kinds = sorted(kinds, key=GROUPS.index)
        text_keys = evaluation_texts(record for group in groups for record in group)
        text_keys = [
            (protocol, digest)
            for protocol, digest in text_keys
            if any(protocol in record.perplexity for group in groups for record in measured_on(group, protocol, digest))
        ]
        sparsities = [group[0].cell.sparsity for group in groups]
        by_sparsity = group_by(
            (row for row, sparsity in enumerate(sparsities) if sparsity != DENSE), sparsities.__getitem__
        )
        contests = [
            (column, rows, protocol, [measured_on(groups[row], protocol, digest) for row in rows])
            for column, (protocol, digest) in enumerate(text_keys, start=2 + len(HEADERS))
            for rows in by_sparsity.values()
        ]
        marked, over_all = set[tuple[int, int]](), set[tuple[int, int]]()
        for column, rows, protocol, entries in contests:
            inside, best = marks_by_group([entries], [kinds[row] for row in rows], protocol, array_store)
            marked |= {(rows[entry], column) for _, entry in inside}
            over_all |= {(rows[entry], column) for _, entry in best}
        told = marks_caption(
            [entries for *_, entries in contests],
            marked=bool(marked | over_all),
            evidence=array_store is not None,
        )
        tables.append(
            Table(
                caption(
                    f"{setting_group.setting.model} on several texts: perplexity (times the dense model's)",
                    setting_group.label or f"calibrated on {setting_group.setting.corpus}",
                    tuning_caption(record for group in groups for record in group),
                    told,
                    GROUPED_CAPTION if over_all else "",
                ),
                (
                    "method",
                    *HEADERS,
                    "sparsity",
                    *(text_title(protocol, digest, text_keys) for protocol, digest in text_keys),
                ),
                tuple(
                    (
                        group[0].cell.method,
                        *columns_of(group),
                        group[0].cell.sparsity,
                        *(_entry(group, dense, protocol, digest) for protocol, digest in text_keys),
                    )
                    for group in groups
                ),
                frozenset(marked),
                frozenset(over_all),
            )
        )
    return tables


def _entry(group: Sequence[Record], dense: Record | None, protocol: str, digest: str) -> str:
    estimate = mean_perplexity(measured_on(group, protocol, digest), protocol)
    if estimate is None:
        return text.MISSING
    dense_records = measured_on([dense] if dense is not None else [], protocol, digest)
    base = dense_records[0].perplexity.get(protocol) if dense_records else None
    return text.number(estimate[0]) + (f" (×{text.number(estimate[0] / base.value)})" if base is not None else "")
