"""Tables of failure signatures: which cells show one, with the evidence, and what to try."""

from collections.abc import Sequence

from prunebench.records.record import Record
from prunebench.report.diagnosis import REMEDIES, Finding, diagnose, worst
from prunebench.report.grouping import group_by, method_order, sparsity_order
from prunebench.report.tables.table import Table, caption


def diagnosis_tables(records: Sequence[Record], order: Sequence[str] = ()) -> list[Table]:
    """A table for each model, one row for each cell and signature, and one of what to try.

    Args:
        records: those to show, of any models.
        order: methods in the order to show them.
    """
    methods = method_order(records, order)
    sparsities = sparsity_order(record.cell.sparsity for record in records)
    tables, seen = [], dict[str, None]()
    for model, of_model in group_by(records, lambda record: record.cell.model).items():
        # Entries of other settings (allocation, calibration) share a row where their methods have one label.
        cells = group_by(of_model, lambda record: (record.cell.method, record.cell.sparsity))
        rows = []
        for key in sorted(cells, key=lambda k: (methods.index(k[0]), sparsities.index(k[1]))):
            found = [(record.cell.seed, finding) for record in cells[key] for finding in diagnose(record)]
            for signature, group in group_by(found, lambda pair: pair[1].signature).items():
                rows.append((*key, signature, _evidence(group, len(cells[key]))))
                seen[signature] = None
        tables.append(
            Table(
                caption(f"Diagnosis of {model}", "what curves, notes and counts say of what went wrong"),
                ("method", "sparsity", "sign", "evidence"),
                tuple(rows),
            )
        )
    tables.append(Table("What to try", ("sign", "what to try"), tuple((sign, REMEDIES[sign]) for sign in seen)))
    return [table for table in tables if table.rows]


def _evidence(group: Sequence[tuple[int, Finding]], records: int) -> str:
    """The evidence of the worst seed, and which seeds show the signature where there are several."""
    evidence = worst(finding for _, finding in group).evidence
    if records == 1:
        return evidence
    seeds = sorted({seed for seed, _ in group})
    return f"{evidence} ({'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))} of {records})"
