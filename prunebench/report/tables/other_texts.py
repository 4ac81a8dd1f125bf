"""Tables of perplexity on several texts, to see how far the calibration text matters."""

from collections.abc import Sequence

from prunebench import text
from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.averages import mean_perplexity
from prunebench.report.budgets import GROUPS, HEADERS, by_group, columns_of, group_of
from prunebench.report.grouping import DENSE, group_by
from prunebench.report.scene import Scene, TextScene
from prunebench.report.tables.best import GROUPED_CAPTION, marks_by_group, marks_caption
from prunebench.report.tables.table import Table, caption
from prunebench.report.tuning import tuning_caption


def other_text_tables(scenes: Sequence[Scene], array_store: ArrayStore | None = None) -> list[Table]:
    """Methods and sparsities × texts: the perplexity, and its ratio to the dense model's.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
        array_store: the arrays of the records; without them nothing is marked as best.

    Returns:
        One table for each scene with cells that were measured on at least two texts.
    """
    parts = [(scene, scene.where(lambda r: r.status == "ok" and len(r.perplexity) > 1)) for scene in scenes]
    shown = [part for scene, part in parts if part.cells or (part.rows and not scene.cells)]
    return [_table(part, part.texts, array_store) for part in shown]


def _table(scene: Scene, texts: Sequence[TextScene], array_store: ArrayStore | None) -> Table:
    of_method = scene.baselines | scene.by_method
    keys = list(scene.rows)
    kinds = [group_of(of_method[method]) for method, _ in keys]
    keys = [keys[row] for row in by_group(kinds)]
    kinds = sorted(kinds, key=GROUPS.index)
    by_sparsity = group_by((row for row, (_, s) in enumerate(keys) if s != DENSE), lambda row: keys[row][1])
    first = 2 + len(HEADERS)  # column of the first text
    contests = [
        (column, rows, one.protocol, [one.rows.get(keys[row], []) for row in rows])
        for column, one in enumerate(texts, start=first)
        for rows in by_sparsity.values()
    ]
    marked, over_all = set[tuple[int, int]](), set[tuple[int, int]]()
    for column, rows, protocol, entries in contests:
        inside, best = marks_by_group([entries], [kinds[row] for row in rows], protocol, array_store)
        marked |= {(rows[entry], column) for _, entry in inside}
        over_all |= {(rows[entry], column) for _, entry in best}
    return Table(
        caption(
            f"{scene.model} on several texts: perplexity (times the dense model's)",
            scene.description,
            tuning_caption(scene.records),
            marks_caption(
                [entries for *_, entries in contests],
                marked=bool(marked | over_all),
                evidence=array_store is not None,
            ),
            GROUPED_CAPTION if over_all else "",
        ),
        ("method", *HEADERS, "sparsity", *(one.title for one in texts)),
        tuple(
            (
                method,
                *columns_of(scene.rows[method, s]),
                s,
                *(_entry(one, one.rows.get((method, s), [])) for one in texts),
            )
            for method, s in keys
        ),
        frozenset(marked),
        frozenset(over_all),
    )


def _entry(scene: TextScene, group: Sequence[Record]) -> str:
    estimate = mean_perplexity(group, scene.protocol)
    if estimate is None:
        return text.MISSING
    times = "" if scene.dense is None else f" (×{text.number(estimate[0] / scene.dense)})"
    return text.number(estimate[0]) + times
