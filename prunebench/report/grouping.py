"""Which records belong in one table.

A table never mixes models, checkpoints of one name, number formats, allocations or calibration texts; of two records
of one cell, made with different options or versions, it takes the later.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prunebench.records.record import Record

K = TypeVar("K")
DENSE = "0"


@dataclass(frozen=True)
class Setting:
    """What all records of one table share.

    Args:
        model, digest, dtype: the dense model, the digest of its weights, the format it ran in.
        allocation: how zeros were shared out among the layers.
        corpus, corpus_digest: the calibration text.
    """

    model: str
    digest: str
    dtype: str
    allocation: str
    corpus: str
    corpus_digest: str

    @classmethod
    def of(cls, record: Record) -> "Setting":
        """The setting of one record."""
        cell, environment = record.cell, record.environment
        return cls(
            model=cell.model,
            digest=str(environment.get("model_digest") or ""),
            dtype=str((cell.model_extra or {}).get("dtype") or ""),
            allocation=cell.allocation,
            corpus=str(cell.calibration.get("corpus", "")),
            corpus_digest=str(environment.get("calibration_digest") or cell.calibration.get("digest") or ""),
        )

    @property
    def checkpoint(self) -> tuple[str, str, str]:
        """What a dense baseline must share with the pruned models beside it."""
        return (self.model, self.digest, self.dtype)

    def describe(self, among: Iterable["Setting"]) -> str:
        """The setting for a caption: always the calibration text, and what else tells it apart from the others."""
        alike = [other for other in among if other.model == self.model]

        def varies(part: Callable[[Setting], str]) -> bool:
            return len({part(other) for other in alike}) > 1

        same_corpus = [other for other in alike if other.corpus == self.corpus]
        parts = [f"calibrated on {self.corpus}" if self.corpus else ""]
        if len({other.corpus_digest for other in same_corpus}) > 1:
            parts[0] += f" ({self.corpus_digest[:8]})"
        if varies(lambda other: other.allocation) or self.allocation != "uniform":
            parts.append(f"allocation {self.allocation}")
        if varies(lambda other: other.dtype):
            parts.append(self.dtype)
        if varies(lambda other: other.digest):
            parts.append(f"weights {self.digest[:8]}")
        return ", ".join(part for part in parts if part)


def protocol_digests(record: Record) -> dict[str, str]:
    """Perplexity protocols of a cell, measured or not, each with the digest of its text."""
    asked = {
        str(evaluation["protocol"]): str(evaluation.get("digest") or "")
        for evaluation in record.cell.evaluations
        if "protocol" in evaluation
    }
    return asked | {name: "" for name in record.perplexity if name not in asked}


def group_by(records: Iterable[Record], key: Callable[[Record], K]) -> dict[K, list[Record]]:
    """Records by a key, in the order of first appearance."""
    groups: dict[K, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def latest_records(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Of several records of one cell, the one that was started last.

    Records of one cell differ in options, versions or evaluations; to average them as if they were seeds would be
    wrong.

    Returns:
        The records to show and those left out, each in the order given.
    """
    chosen: dict[Any, Record] = {}
    for record in records:
        key = (Setting.of(record), record.cell.key)
        if key not in chosen or _started(record) >= _started(chosen[key]):
            chosen[key] = record
    shown = {id(record) for record in chosen.values()}
    return [r for r in records if id(r) in shown], [r for r in records if id(r) not in shown]


def _started(record: Record) -> str:
    return str(record.environment.get("started") or "")


def method_order(records: Iterable[Record], order: Sequence[str] = ()) -> list[str]:
    """Methods in the order asked for, then by name."""
    names = {record.cell.method for record in records}
    return [name for name in order if name in names] + sorted(names - set(order))


def sparsity_order(sparsities: Iterable[str]) -> list[str]:
    """Ratios by size, then n:m patterns by their share of zeros."""

    def place(sparsity: str) -> tuple[int, float, float, str]:
        first, colon, second = sparsity.partition(":")
        try:
            if colon:
                return (1, -float(first) / float(second), float(second), sparsity)
            return (0, float(first), 0.0, sparsity)
        except (ValueError, ZeroDivisionError):
            return (2, math.inf, 0.0, sparsity)

    return sorted(set(sparsities), key=place)


def records_by_setting(records: Sequence[Record]) -> dict[Setting, list[Record]]:
    """Records by what a table never mixes; baselines by themselves only where nothing was pruned."""
    groups = group_by(records, Setting.of)
    pruned = {setting for setting, group in groups.items() if any(record.cell.sparsity != DENSE for record in group)}
    compared = {setting.checkpoint for setting in pruned}
    return {
        setting: group for setting, group in groups.items() if setting in pruned or setting.checkpoint not in compared
    }


def baselines_of(records: Sequence[Record], setting: Setting) -> dict[str, Record]:
    """Methods that prune nothing (they ran at sparsity 0 alone), with their record for the same dense model."""
    pruning = {record.cell.method for record in records if record.cell.sparsity != DENSE}
    return {
        record.cell.method: record
        for record in records
        if record.cell.method not in pruning and Setting.of(record).checkpoint == setting.checkpoint
    }


@dataclass(frozen=True)
class SettingGroup:
    """What one plot may compare: one model, one setting.

    Args:
        setting: what its records share.
        words: what tells it apart from other settings of the model, for titles.
        base: records of the dense model, by method.
        entries: records (seeds) of each (method, sparsity) that ran.
        failed: those of which some seed failed.
    """

    setting: Setting
    label: str
    baselines: dict[str, Record]
    entries: dict[tuple[str, str], list[Record]] = field(repr=False)
    failed: frozenset[tuple[str, str]] = frozenset()

    @property
    def sparsities(self) -> list[str]:
        """Of all entries, in order."""
        return sparsity_order(sparsity for _, sparsity in self.entries)

    def methods(self, styles: dict[str, int]) -> list[str]:
        """Of all entries, in the order of their looks."""
        return sorted({method for method, _ in self.entries}, key=lambda method: styles[method])


def setting_groups(records: Sequence[Record]) -> list[SettingGroup]:
    """Everything that plots are made of, for each model and setting.

    Args:
        records: of any models; of failed ones it is only said that they are.
    """
    groups_found = []
    for model_records in group_by(records, lambda record: record.cell.model).values():
        groups = records_by_setting(model_records)
        for setting, group in groups.items():
            baselines = baselines_of(model_records, setting)
            pruned = [r for r in group if r.status == "ok" and r.cell.method not in baselines]
            groups_found.append(
                SettingGroup(
                    setting=setting,
                    label=setting.describe(groups) if len(groups) > 1 else "",
                    baselines={method: record for method, record in baselines.items() if record.status == "ok"},
                    entries=group_by(pruned, lambda record: (record.cell.method, record.cell.sparsity)),
                    failed=frozenset((r.cell.method, r.cell.sparsity) for r in group if r.status == "failed"),
                )
            )
    return groups_found


def method_styles(records: Iterable[Record], order: Sequence[str] = ()) -> dict[str, int]:
    """A number for each method that prunes: the same colour and mark wherever it appears."""
    pruning = [record for record in records if record.cell.sparsity != DENSE]
    return {method: number for number, method in enumerate(method_order(pruning, order))}


def evaluation_texts(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Perplexity protocols of some records, each with the digest of its text."""
    return list(dict.fromkeys(entry for record in records for entry in protocol_digests(record).items()))


def text_title(protocol: str, digest: str, among: Iterable[tuple[str, str]]) -> str:
    """What a text is called: its protocol, and where two are alike the digest."""
    return protocol if [name for name, _ in among].count(protocol) == 1 else f"{protocol} (text {digest[:8]})"


def measured_on(records: Iterable[Record], protocol: str, digest: str) -> list[Record]:
    """Records of cells that are measured on one text."""
    return [record for record in records if protocol_digests(record).get(protocol) == digest]
