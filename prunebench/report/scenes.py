"""The records of a report, grouped once into the scenes that its tables and plots are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from prunebench.records.cell_facts import task_titles
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, Setting, group_by, latest_records, method_order, text_titles
from prunebench.report.scene import Scene, TextScene
from prunebench.report.styles import method_styles


@dataclass(frozen=True)
class Scenes:
    """The records of a report, grouped once for all that it shows.

    Args:
        records: those to show, of any models.
        left_out: those of which a later record of the same cell is there.
        order: all methods in the order to show them.
        settings: a scene for each model and setting.
        texts: a scene for each text, model and setting.
        tasks: a scene for each model and setting with zero-shot tasks.
    """

    records: Sequence[Record]
    left_out: Sequence[Record]
    order: Sequence[str]
    settings: Sequence[Scene]
    texts: Sequence[TextScene]
    tasks: Sequence[Scene]

    @classmethod
    def of(cls, records: Sequence[Record], order: Sequence[str] = ()) -> "Scenes":
        """Group records.

        Args:
            records: of any models, methods and settings.
            order: methods in the order to show them; the rest follow as they were started.
        """
        shown, left_out = latest_records(records)
        methods = method_order(shown, order)
        settings = _by_setting(shown, methods)
        texts = [
            scene
            for text, title in text_titles(shown).items()
            for scene in _with_cells([each.on_text(*text, title) for each in settings])
        ]
        tasks = _with_cells([scene.where(_has_tasks) for scene in settings])
        return cls(shown, left_out, methods, settings, texts, tasks)

    @property
    def models(self) -> list[str]:
        """The labels of all models."""
        return list(dict.fromkeys(scene.model for scene in self.settings))

    @property
    def first(self) -> list[TextScene]:
        """The scenes of the first text."""
        return [scene for scene in self.texts if scene.title == self.texts[0].title]

    def of_model(self, model: str) -> "Scenes":
        """The scenes of one model."""
        settings, tasks = ([s for s in scenes if s.model == model] for scenes in (self.settings, self.tasks))
        return replace(self, settings=settings, texts=[s for s in self.texts if s.model == model], tasks=tasks)


def _by_setting(records: Sequence[Record], order: Sequence[str]) -> list[Scene]:
    """A scene for each model and setting."""
    scenes, styles = [], method_styles(records, order)
    for of_model in group_by(records, lambda record: record.cell.model).values():
        pruning = {record.cell.method for record in of_model if record.cell.sparsity != DENSE}
        groups = group_by(of_model, Setting.of)
        dense = {s: [r for r in group if r.cell.method not in pruning] for s, group in groups.items()}
        found = []
        for setting, group in groups.items():
            others = [r for s, own in dense.items() if s != setting and s.checkpoint == setting.checkpoint for r in own]
            # Of two records of one seed the last counts, that of the setting itself.
            alike = sorted([*others, *dense[setting]], key=lambda record: order.index(record.cell.method))
            pruned = tuple(record for record in group if record.cell.method in pruning)
            found.append(Scene(setting, (), styles, pruned, tuple(alike)))
        found = _with_cells(found)
        scenes += [replace(scene, settings=tuple(other.setting for other in found)) for scene in found]
    return scenes


S = TypeVar("S", bound=Scene)


def _with_cells(scenes: Sequence[S]) -> list[S]:
    """The scenes that compare something: one with baselines alone counts only if its checkpoint is nowhere pruned."""
    compared = {scene.setting.checkpoint for scene in scenes if scene.pruned_records}
    found = []
    for scene in scenes:
        alone = scene.dense_records and scene.setting.checkpoint not in compared
        if scene.pruned_records or alone:
            found.append(scene)
            compared.add(scene.setting.checkpoint)
    return found


def _has_tasks(record: Record) -> bool:
    return any(task_titles(evaluation) for evaluation in record.cell.evaluations) or bool(record.zero_shot)
