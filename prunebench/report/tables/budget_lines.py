"""Tables of perplexity against training budgets: methods × tokens, so that a column compares equal budgets."""

from collections.abc import Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.report.lines import Budget, budget_lines, sparsities_with_lines
from prunebench.report.scene import TextScene
from prunebench.report.tables.best import best_perplexities, marks_caption
from prunebench.report.tables.perplexity import mean_over_seeds
from prunebench.report.tables.table import Table, caption, seeds_text
from prunebench.report.tuning import tuning_caption


def budget_tables(scenes: Sequence[TextScene], array_store: ArrayStore | None = None) -> list[Table]:
    """One table for each text, model and sparsity where a method was trained with several budgets.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.texts``.
        array_store: the arrays of the records; without them nothing is marked as best.
    """
    return [_table(scene, sparsity, array_store) for scene in scenes for sparsity in sparsities_with_lines(scene)]


def _table(scene: TextScene, sparsity: str, array_store: ArrayStore | None) -> Table:
    lines = budget_lines(scene, sparsity)
    tokens = {text.count(budget.tokens): budget.tokens for line in lines for budget in line.budgets}
    columns = sorted(tokens, key=lambda shown: tokens[shown])
    found: list[list[Budget | None]] = [
        [next((b for b in line.budgets if text.count(b.tokens) == column), None) for line in lines]
        for column in columns
    ]
    entries = [[budget.records if budget else () for budget in column] for column in found]
    pruned = [  # a dense model that was trained on does not compete with pruned ones
        [entry if line.style is not None else () for entry, line in zip(column, lines, strict=True)]
        for column in entries
    ]
    marked = best_perplexities(pruned, scene.protocol, array_store)
    records = [record for column in entries for entry in column for record in entry]
    return Table(
        caption(
            f"Perplexity of {scene.model} at {sparsity} on {scene.title}, by the tokens that methods trained on",
            "" if scene.dense is None else f"dense {text.number(scene.dense)}",
            scene.label,
            seeds_text([entry for column in entries for entry in column if entry], "standard deviation"),
            tuning_caption(records),
            marks_caption(pruned, marked=bool(marked), evidence=array_store is not None),
        ),
        ("method", *("one-shot" if tokens[column] == 0 else column for column in columns)),
        tuple(
            (
                line.label if line.style is not None else f"{line.label} (dense)",
                *(mean_over_seeds(column[row], scene.protocol) for column in entries),
            )
            for row, line in enumerate(lines)
        ),
        frozenset((row, 1 + column) for column, row in marked),
    )
