"""Tables of the numbers that evaluation plugins measured."""

import statistics
from collections.abc import Sequence

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.scene import Scene
from prunebench.report.tables.table import Table, caption, seeds_text
from prunebench.report.tuning import tuning_caption


def measure_tables(scenes: Sequence[Scene]) -> list[Table]:
    """Methods × sparsities, one table for each number of each evaluation; the dense model is in the caption.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
    """
    return [_table(scene, label, name) for scene in scenes for label, name in _measures(scene)]


def _measures(scene: Scene) -> list[tuple[str, str]]:
    """The evaluations of a scene and the names of their numbers."""
    found = ((label, name) for record in scene.records for label, part in record.measures.items() for name in part)
    return list(dict.fromkeys(found))


def _table(scene: Scene, label: str, name: str) -> Table:
    return Table(
        caption(
            f"{label}: {name}, of {scene.model}",
            ", ".join(f"{method} {_mean(seeds, label, name)}" for method, seeds in scene.baselines.items()),
            scene.description,
            seeds_text(scene.cells.values(), "standard deviation"),
            tuning_caption(scene.records),
        ),
        ("method", *scene.sparsities),
        tuple(
            (method, *(_mean(scene.cells.get((method, sparsity), []), label, name) for sparsity in scene.sparsities))
            for method in scene.by_method
        ),
    )


def _mean(records: Sequence[Record], label: str, name: str) -> str:
    """Mean ± standard deviation over seeds, as text."""
    values = [value for record in records if (value := record.measures.get(label, {}).get(name)) is not None]
    if not values:
        return text.FAILED if any(record.status == "failed" for record in records) else text.MISSING
    mean = statistics.fmean(values)
    spread = f" ± {text.number(statistics.stdev(values), like=mean)}" if len(values) > 1 else ""
    return text.number(mean) + spread
