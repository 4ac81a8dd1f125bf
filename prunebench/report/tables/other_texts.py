"""How pruning that was calibrated on one text shows on others."""

from collections.abc import Sequence

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.averages import mean_perplexity
from prunebench.report.grouping import on_text, scenes, text_title, texts
from prunebench.report.tables.table import Table, caption


def robustness_tables(records: Sequence[Record], looks: dict[str, int]) -> list[Table]:
    """Methods and sparsities × texts: the perplexity, and how many times the dense model's it is.

    Args:
        records: those to show; see ``prunebench.report.grouping.latest``.
        looks: see ``prunebench.report.grouping.looks_of``.

    Returns:
        A table for each model and setting that was measured on two texts or more.
    """
    tables = []
    for scene in scenes([record for record in records if len(record.perplexity) > 1]):
        dense = next(iter(scene.base.values()), None)
        groups = [[record] for record in scene.base.values()]
        groups += [
            scene.entries[method, sparsity]
            for method in scene.methods(looks)
            for sparsity in scene.sparsities
            if (method, sparsity) in scene.entries
        ]
        found = texts(record for group in groups for record in group)
        found = [
            (protocol, digest)
            for protocol, digest in found
            if any(protocol in record.perplexity for group in groups for record in on_text(group, protocol, digest))
        ]
        tables.append(
            Table(
                caption(
                    f"{scene.setting.model} on several texts: perplexity (times the dense model's)",
                    f"calibrated on {scene.setting.corpus}",
                    scene.words,
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
    found = mean_perplexity(on_text(group, protocol, digest), protocol)
    if found is None:
        return text.MISSING
    same = on_text([dense] if dense is not None else [], protocol, digest)
    base = same[0].perplexity.get(protocol) if same else None
    return text.number(found[0]) + (f" (×{text.number(found[0] / base.value)})" if base is not None else "")
