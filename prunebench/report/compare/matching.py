"""Which records of two folders are held against each other."""

import itertools
from collections.abc import Hashable, Sequence

from prunebench.records.record import Record
from prunebench.report.grouping import Setting, group_by


def best_match(base: Sequence[Record], head: Sequence[Record]) -> tuple[Record, Record]:
    """Of several records of one key, the pair to compare.

    Clocks of several machines disagree, so content decides: a pair that can be compared goes before one that cannot; a
    record that the other folder does not have goes before one that lies in both, which was there before; then the pair
    with the fewest different options and calibration values. Only what this leaves open goes by the time of the start.
    """
    known = [{_content(record) for record in side} for side in (base, head)]
    if len(base) == len(head) == 1:
        return base[0], head[0]

    def rank(pair: tuple[Record, Record]) -> tuple[bool, bool, bool, int, tuple[str, str]]:
        old, new = pair
        return (
            not incomparable(old, new),
            _content(new) not in known[0],
            _content(old) not in known[1],
            -len(different_settings(old, new)),
            (str(new.environment.get("started") or ""), str(old.environment.get("started") or "")),
        )

    return max(itertools.product(base, head), key=rank)


def _content(record: Record) -> str:
    return record.digest or record.cell.id


def incomparable(base: Record, head: Record) -> tuple[str, ...]:
    """The reasons why two records of one key cannot be compared; empty if they can."""
    old, new = Setting.of(base), Setting.of(head)
    reasons = []
    for what, first, second in (
        ("the dense model has other weights", old.digest[:8], new.digest[:8]),
        ("the model ran in another format", old.dtype, new.dtype),
        ("the calibration text is another one", old.corpus_digest[:8], new.corpus_digest[:8]),
    ):
        if first != second:
            reasons.append(f"{what}: {first or 'unknown'} in BASE, {second or 'unknown'} in HEAD")
    return tuple(reasons)


def different_settings(base: Record, head: Record) -> tuple[str, ...]:
    """Options and calibration values that differ. They are not in the key, so that a changed default is compared."""
    differences = []
    for old, new in ((base.cell.options, head.cell.options), (base.cell.calibration, head.cell.calibration)):
        names = [name for name in dict.fromkeys([*old, *new]) if name not in ("source", "digest")]
        differences += [f"{name} {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]
    return tuple(differences)


def without_seed(record: Record) -> Hashable:
    """The key of a cell without its seed."""
    model, method, sparsity, allocation, _, corpus = record.cell.key
    return model, method, sparsity, allocation, corpus


def with_other_seeds(base: Sequence[Record], head: Sequence[Record]) -> list[tuple[list[Record], list[Record]]]:
    """The cells that both folders have, but with no seed in common; for each the records of all seeds.

    Of several records of a seed the comparable pair is taken as in ``best_match``.
    """
    sides = [group_by(records, without_seed) for records in (base, head)]
    pairs = []
    for key, old in sides[0].items():
        new = sides[1].get(key, [])
        if not new or {r.cell.seed for r in old} & {r.cell.seed for r in new}:
            continue
        seeds = [list(group_by(side, lambda record: record.cell.seed).values()) for side in (old, new)]
        pairs.append(
            (
                [best_match(of_seed, seeds[1][0])[0] for of_seed in seeds[0]],
                [best_match(seeds[0][0], of_seed)[1] for of_seed in seeds[1]],
            )
        )
    return pairs
