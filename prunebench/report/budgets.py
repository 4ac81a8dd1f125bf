"""Training budgets: how a method trained, and on how many tokens; what did not have the same budget stands apart.

Records of schema 1 counted no effort. One that took no calibration text cannot have been trained on it; of the others
nothing is known.
"""

from collections.abc import Iterable, Sequence

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE

ONE_SHOT, BLOCK_WISE, END_TO_END, NOT_MEASURED = "one-shot", "block-wise", "end to end", "not measured"
GROUPS = (ONE_SHOT, BLOCK_WISE, END_TO_END, NOT_MEASURED)
"""The groups in the order of tables: what was trained block by block, what as a whole."""
HEADERS = ("training", "trained on")

_MEASURED = {"none": ONE_SHOT, "block": BLOCK_WISE, "end-to-end": END_TO_END}


def training_of(record: Record) -> str:
    """How the model of one record was trained while it was pruned, as one of ``GROUPS``."""
    if record.method is not None and record.method.brought:
        return NOT_MEASURED
    if record.method is not None and record.method.training is not None:
        return _MEASURED[record.method.training]
    return ONE_SHOT if record.cost.tokens_seen == 0 else NOT_MEASURED


def trained_tokens(record: Record) -> int | None:
    """Tokens that went backward while the model was pruned; None if that is not known."""
    counts = [effort.backward_tokens for effort in record.effort]
    if counts and None not in counts:
        return sum(count for count in counts if count is not None)
    return 0 if training_of(record) == ONE_SHOT else None


def group_of(records: Iterable[Record]) -> str:
    """How a row of several cells was trained: as the one that was trained the most; failed cells do not count."""
    found = {training_of(record) for record in records if record.status == "ok"}
    return next((group for group in reversed(GROUPS) if group in found), NOT_MEASURED)


def budget(records: Iterable[Record]) -> str:
    """Tokens that the cells of a row were trained on, as a range over them; a dash where they are not known."""
    counts = [trained_tokens(record) for record in records if record.status == "ok"]
    return text.MISSING if None in counts else text.span(counts, text.count)


def columns_of(records: Sequence[Record]) -> tuple[str, str]:
    """The entries of a row under ``HEADERS``; dashes for the dense model as it is, and for failed cells."""
    group, tokens = group_of(records), budget(records)
    untouched = group != END_TO_END and all(record.cell.sparsity == DENSE for record in records)
    failed = all(record.status == "failed" for record in records)
    return (text.MISSING, text.MISSING) if untouched or failed else (group, tokens)


def described(records: Sequence[Record]) -> str:
    """The same in words: one-shot; trained end to end on 524 k tokens."""
    group, tokens = group_of(records), budget(records)
    if group in (ONE_SHOT, NOT_MEASURED):
        return group if group == ONE_SHOT else "training not measured"
    return f"trained {group} on {tokens} tokens"


def by_group(groups: Sequence[str]) -> list[int]:
    """The positions of rows, those of one group together, in the order of ``GROUPS``."""
    return sorted(range(len(groups)), key=lambda row: GROUPS.index(groups[row]))
