"""How pruning that was calibrated on one text shows on others."""

from collections.abc import Sequence

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.averages import mean_perplexity
from prunebench.report.grouping import evaluation_texts, measured_on, setting_groups, text_title
from prunebench.report.tables.table import Table, caption


def other_text_tables(records: Sequence[Record], styles: dict[str, int]) -> list[Table]:
    """Methods and sparsities × texts: the perplexity, and how many times the dense model's it is.

    Args:
        records: those to show; see ``prunebench.report.grouping.latest_records``.
        styles: see ``prunebench.report.grouping.method_styles``.

    Returns:
        A table for each model and setting that was measured on two texts or more.
    """
    tables = []
    for setting_group in setting_groups([record for record in records if len(record.perplexity) > 1]):
        dense = next(iter(setting_group.baselines.values()), None)
        groups = [[record] for record in setting_group.baselines.values()]
        groups += [
            setting_group.entries[method, sparsity]
            for method in setting_group.methods(styles)
            for sparsity in setting_group.sparsities
            if (method, sparsity) in setting_group.entries
        ]
        found = evaluation_texts(record for group in groups for record in group)
        found = [
            (protocol, digest)
            for protocol, digest in found
            if any(protocol in record.perplexity for group in groups for record in measured_on(group, protocol, digest))
        ]
        tables.append(
            Table(
                caption(
                    f"{setting_group.setting.model} on several texts: perplexity (times the dense model's)",
                    f"calibrated on {setting_group.setting.corpus}",
                    setting_group.label,
                ),
                ("method", "sparsity", *(text_title(protocol, digest, found) for protocol, digest in found)),
                tuple(
                    (
                        group[0].cell.method,
                        group[0].cell.sparsity,
                        *(_entry(group, dense, protocol, digest) for protocol, digest in found),
                    )
                    for group in groups
                ),
            )
        )
    return tables


def _entry(group: Sequence[Record], dense: Record | None, protocol: str, digest: str) -> str:
    found = mean_perplexity(measured_on(group, protocol, digest), protocol)
    if found is None:
        return text.MISSING
    same = measured_on([dense] if dense is not None else [], protocol, digest)
    base = same[0].perplexity.get(protocol) if same else None
    return text.number(found[0]) + (f" (×{text.number(found[0] / base.value)})" if base is not None else "")
