"""A scene: what one table or plot compares.

Every table and plot is made of scenes. It takes the cells, baselines and titles that a scene has, in the order in which
they stand there, and leaves out what it does not need by ``Scene.where``; which records stand together is decided once,
by ``prunebench.report.scenes``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, Setting, group_by, protocol_digests, sparsity_order, text_titles

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


def _trained(record: Record) -> bool:
    return any(effort.backward_tokens for effort in record.effort)
