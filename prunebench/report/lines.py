"""Lines over training budgets: entries of a suite that differ in how long they trained are one method."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from prunebench.records.record import Record
from prunebench.report.budgets import trained_tokens
from prunebench.report.grouping import group_by
from prunebench.report.scene import TextScene
from prunebench.report.styles import style_number

SCALED = ("steps", "lr")
"""Options of ``fit`` that go with a budget: how many steps, and how long each of them is."""


@dataclass(frozen=True)
class Budget:
    """One entry of a suite on a line.

    Args:
        method: its label.
        tokens: what it trained on, the mean over seeds.
        records: one for each seed.
    """

    method: str
    tokens: float
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Line:
    """One method at one sparsity, over the budgets that it was trained with.

    Args:
        label: what the labels of its entries have in common.
        style: see ``prunebench.report.styles.style_number``; None for the dense model that was trained on.
        budgets: the smallest first.
    """

    label: str
    style: int | None
    budgets: tuple[Budget, ...]


def budget_lines(scene: TextScene, sparsity: str) -> list[Line]:
    """The methods of a scene at one sparsity, each with all its budgets, and dense models that were trained as long.

    Entries are of one line if they have the same methods, one after another, with the same options, but for those that
    trials chose and those in ``SCALED``.

    Args:
        scene: the records.
        sparsity: as asked for.

    Returns:
        The lines in the scene's order of methods. Entries whose training was not measured are left out.
    """
    groups = {key: tuple(group) for key, group in scene.measured.items() if key[1] == sparsity}
    entries = [*groups.values(), *map(tuple, scene.controls.values())]
    budgets = [
        Budget(records[0].cell.method, statistics.fmean(tokens), records)
        for records in entries
        if all(scene.protocol in record.perplexity for record in records)
        and (tokens := [count for record in records if (count := trained_tokens(record)) is not None])
        and len(tokens) == len(records)
    ]
    lines = []
    for own in group_by(budgets, lambda budget: _identity(budget.records[0])).values():
        for members in _apart(own):
            label = _common_label([budget.method for budget in members])
            pruned = members[0].records[0].cell.sparsity == sparsity
            ordered = tuple(sorted(members, key=lambda budget: budget.tokens))
            lines.append(Line(label, style_number(label) if pruned else None, ordered))
    return lines


def sparsities_with_lines(scene: TextScene) -> list[str]:
    """The sparsities at which some method that prunes was trained with several budgets."""
    return [
        sparsity
        for sparsity in scene.sparsities
        if any(len(line.budgets) > 1 and line.style is not None for line in budget_lines(scene, sparsity))
    ]


def _apart(budgets: list[Budget]) -> list[list[Budget]]:
    """Entries of one identity as lines: several of one budget differ in more, and then their labels must tell them."""

    def clash(some: Sequence[Budget]) -> bool:
        return len({budget.tokens for budget in some}) < len(some)

    if not clash(budgets):
        return [budgets]
    by_label = group_by(budgets, lambda budget: budget.method.rpartition(" ")[0] or budget.method).values()
    return [lines for own in by_label for lines in ([[budget] for budget in own] if clash(own) else [own])]


def _identity(record: Record) -> str:
    """What entries of one line have in common: their methods, and the options that neither trials nor budgets set."""
    chosen = record.cell.tuning.options if record.cell.tuning is not None else {}
    parts: list[tuple[str, list[tuple[str, str]]]] = []
    for number, stage in enumerate(record.cell.stages):
        tuned = {
            name.rpartition(".")[2]
            for name in chosen
            if name.rpartition(".")[0] == ("" if not number else stage.plugin)
        }
        fixed = [(k, repr(v)) for k, v in sorted(stage.options.items()) if k not in tuned and k not in SCALED]
        parts.append((stage.plugin, fixed))
    return repr(parts)


def _common_label(labels: Sequence[str]) -> str:
    """The words with which all labels begin; the first label if there are none."""
    words = [label.split() for label in labels]
    common = [column[0] for column in zip(*words, strict=False) if len(set(column)) == 1]
    begins = common if all(row[: len(common)] == common for row in words) else []
    return " ".join(begins) or labels[0]
