"""The sparsity that was reached, where it is another than the one asked for."""

from collections.abc import Mapping, Sequence

from prunebench.records.record import Record

VISIBLE = 5e-4  # what the third decimal shows


def reached_caption(cells: Mapping[tuple[str, str], Sequence[Record]]) -> str:
    """What was reached, for a caption; empty where all is as it was asked for.

    It is more where weights were zero before pruning, and may be more or less of weights that were pruned elsewhere.

    Args:
        cells: records by method and sparsity.
    """
    told = []
    for (method, sparsity), records in cells.items():
        facts = [record.sparsity for record in records if record.sparsity is not None]
        if any(abs(fact.reached - fact.requested) >= VISIBLE for fact in facts):
            shares = dict.fromkeys(f"{fact.reached:.4f}" for fact in sorted(facts, key=lambda fact: fact.reached))
            lowest, *others = shares
            told.append(f"{method} at {sparsity} reached {f'{lowest} to {others[-1]}' if others else lowest}")
    return ", ".join(told)
