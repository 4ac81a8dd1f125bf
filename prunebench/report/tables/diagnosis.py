"""Tables of failure signatures: which cells show one, with the evidence, and what to try."""

from collections.abc import Sequence

from prunebench.report.diagnosis import REMEDIES, Finding, diagnose, worst
from prunebench.report.grouping import group_by
from prunebench.report.scene import Scene
from prunebench.report.tables.table import Table, caption


def diagnosis_tables(scenes: Sequence[Scene]) -> list[Table]:
    """A table for each scene, one row for each cell and signature, and one of what to try.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
    """
    tables, seen = [], dict[str, None]()
    for scene in scenes:
        rows = []
        for key, records in scene.cells.items():
            found = [(record.cell.seed, finding) for record in records for finding in diagnose(record)]
            for signature, group in group_by(found, lambda pair: pair[1].signature).items():
                rows.append((*key, signature, _evidence(group, len(records))))
                seen[signature] = None
        tables.append(
            Table(
                caption(
                    f"Diagnosis of {scene.model}", scene.label, "what curves, notes and counts say of what went wrong"
                ),
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
