"""Scenes: the records of a report, grouped once into what a table or a plot compares.

Every table and plot is made of scenes, whatever decides which records stand in one: it takes the baselines, cells and
titles that a scene has, in its order, and leaves out what it does not need by ``Scene.where``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self, TypeVar

from prunebench.records.cell_facts import task_titles
from prunebench.records.record import Record
from prunebench.report.grouping import (
    DENSE,
    Setting,
    group_by,
    latest_records,
    method_order,
    protocol_digests,
    sparsity_order,
    text_titles,
)
from prunebench.report.styles import method_styles

Cells = dict[tuple[str, str], list[Record]]
"""By method and sparsity the records of a cell, one for each seed."""


@dataclass(frozen=True)
class Scene:
    """What one table or plot compares: one model pruned in one setting, and the dense model.

    Args:
        setting: what the records have in common.
        settings: all that the report shows of the model.
        styles: see ``prunebench.report.styles.method_styles``; in the order in which methods are shown.
        pruned_records: of the methods that prune, failed ones included.
        dense_records: of those that run at sparsity 0 alone, such as a dense model that was trained on.
    """

    setting: Setting
    settings: tuple[Setting, ...] = field(repr=False)
    styles: Mapping[str, int] = field(repr=False)
    pruned_records: tuple[Record, ...] = field(repr=False)
    dense_records: tuple[Record, ...] = field(repr=False)

    @property
    def model(self) -> str:
        """The label of the model."""
        return self.setting.model

    @property
    def description(self) -> str:
        """The setting, for a caption."""
        return self.setting.describe(self.settings)

    @property
    def dense_description(self) -> str:
        """What distinguishes the dense model from others of its name, for a caption."""
        own, *others = (replace(s, corpus="", allocation="uniform") for s in (self.setting, *self.settings))
        return own.describe(others)

    @property
    def label(self) -> str:
        """What distinguishes the setting from others of the model, for a title; empty if there is only one."""
        return self.description if len(self.settings) > 1 else ""

    @cached_property
    def cells(self) -> Cells:
        """Cells of pruned models in the order to show them, failed records included."""
        found = group_by(self.pruned_records, lambda record: (record.cell.method, record.cell.sparsity))
        sparsities = sparsity_order(sparsity for _, sparsity in found)
        return {(m, s): found[m, s] for m in self.styles for s in sparsities if (m, s) in found}

    @cached_property
    def baselines(self) -> dict[str, list[Record]]:
        """Records of the dense model, one for each seed, by method; failed ones included."""
        by_method = group_by(self.dense_records, lambda record: record.cell.method)
        return {m: list({record.cell.seed: record for record in group}.values()) for m, group in by_method.items()}

    @cached_property
    def rows(self) -> Cells:
        """All cells, those of the dense model first."""
        return {(method, DENSE): group for method, group in self.baselines.items()} | self.cells

    @property
    def records(self) -> list[Record]:
        """The records of all rows, failed ones included."""
        return [record for group in self.rows.values() for record in group]

    @cached_property
    def by_method(self) -> dict[str, list[Record]]:
        """Records of pruned models by method, in the order to show them; failed ones included."""
        return group_by((r for group in self.cells.values() for r in group), lambda record: record.cell.method)

    @property
    def sparsities(self) -> list[str]:
        """Sparsities of all cells, sorted."""
        return sparsity_order(sparsity for _, sparsity in self.cells)

    @cached_property
    def failed(self) -> frozenset[tuple[str, str]]:
        """The cells of which a seed failed."""
        return frozenset(key for key, group in self.cells.items() if any(r.status == "failed" for r in group))

    @property
    def controls(self) -> dict[str, list[Record]]:
        """Successful baselines that were trained on."""
        return {m: group for m, group in self.succeeded().baselines.items() if any(map(_trained, group))}

    @property
    def untouched(self) -> list[Record]:
        """Successful records of the dense model as it is; empty where there are none."""
        return next((group for m, group in self.succeeded().baselines.items() if m not in self.controls), [])

    def where(self, test: Callable[[Record], bool]) -> Self:
        """The scene with those records alone that pass a test."""
        pruned, dense = (tuple(filter(test, records)) for records in (self.pruned_records, self.dense_records))
        return replace(self, pruned_records=pruned, dense_records=dense)

    def succeeded(self) -> Self:
        """The scene without failed records."""
        return self.where(lambda record: record.status == "ok")

    def on_text(self, protocol: str, digest: str, title: str) -> "TextScene":
        """The scene of the cells that measure perplexity on one text, failed ones included."""
        part = self.where(lambda record: protocol_digests(record).get(protocol) == digest)
        return TextScene(
            part.setting, part.settings, part.styles, part.pruned_records, part.dense_records, protocol, title
        )

    @property
    def texts(self) -> list["TextScene"]:
        """The scene on each text that a perplexity was measured on."""
        found = [self.on_text(*text, title) for text, title in text_titles(self.records).items()]
        return [scene for scene in found if any(scene.protocol in record.perplexity for record in scene.records)]


@dataclass(frozen=True)
class TextScene(Scene):
    """A scene whose cells measure perplexity on one text.

    Args:
        protocol: of the text.
        title: the protocol, with the text's digest where two texts have one protocol.
    """

    protocol: str
    title: str

    @cached_property
    def dense(self) -> float | None:
        """Perplexity of the dense model as it is, if there is one; None where it was not measured."""
        found = [r for g in self.succeeded().baselines.values() for r in g if self.protocol in r.perplexity]
        return next((r.perplexity[self.protocol].value for r in sorted(found, key=_trained)), None)

    @cached_property
    def measured(self) -> Cells:
        """Cells whose perplexity is known; without those of which a seed failed."""
        return {
            key: records
            for key, records in self.cells.items()
            if key not in self.failed and all(self.protocol in record.perplexity for record in records)
        }


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


def _trained(record: Record) -> bool:
    return any(effort.backward_tokens for effort in record.effort)


def _has_tasks(record: Record) -> bool:
    return any(task_titles(evaluation) for evaluation in record.cell.evaluations) or bool(record.zero_shot)
