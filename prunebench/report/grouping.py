"""Grouping of records: which of them may share a table or a plot, and in which order they are shown.

A table never mixes models, checkpoints of one name, number formats, allocations or calibration texts. If a cell has two
records, made with different options or versions, only the later is shown.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from prunebench.records.record import Record

K = TypeVar("K")
T = TypeVar("T")
DENSE = "0"


@dataclass(frozen=True)
class Setting:
    """What all records of one table have in common.

    Args:
        model, digest, dtype: the dense model, the digest of its weights, its number format.
        allocation: how the zeros are distributed over the layers.
        corpus, corpus_digest: the calibration text and its digest.
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
        """What a dense baseline must have in common with the pruned models that it is compared with."""
        return (self.model, self.digest, self.dtype)

    def describe(self, others: Iterable["Setting"]) -> str:
        """The setting for a caption: the calibration text, and whatever else distinguishes it from the others.

        Args:
            others: all settings shown; those of other models are ignored.
        """
        same_model = [other for other in others if other.model == self.model]

        def varies(part: Callable[[Setting], str]) -> bool:
            return len({part(other) for other in same_model}) > 1

        same_corpus = [other for other in same_model if other.corpus == self.corpus]
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
    """Perplexity protocols of a cell, measured or not, with the digest of each text (empty if unknown)."""
    requested = {
        str(evaluation["protocol"]): str(evaluation.get("digest") or "")
        for evaluation in record.cell.evaluations
        if "protocol" in evaluation
    }
    return requested | {name: "" for name in record.perplexity if name not in requested}


def group_by(records: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Group records by a key, in the order of first appearance."""
    groups: dict[K, list[T]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def latest_records(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Of several records of one cell take the one that was started last; of a row's seeds those with its last options.

    Such records differ in options, versions or evaluations, and must not be averaged as if they were seeds.

    Returns:
        The records to show and those to leave out, each in the order given.
    """
    options: dict[Any, Record] = {}
    for record in records:
        _take_later(options, _row(record), record)
    chosen: dict[Any, Record] = {}
    for record in records:
        if _options(record) == _options(options[_row(record)]):
            _take_later(chosen, (Setting.of(record), record.cell.key), record)
    shown = {id(record) for record in chosen.values()}
    return [r for r in records if id(r) in shown], [r for r in records if id(r) not in shown]


def _row(record: Record) -> Any:
    return Setting.of(record), record.cell.method, record.cell.sparsity


def _options(record: Record) -> Any:
    return [stage.options for stage in record.cell.stages]


def _take_later(chosen: dict[Any, Record], key: Any, record: Record) -> None:
    if key not in chosen or _started(record) >= _started(chosen[key]):
        chosen[key] = record


def _started(record: Record) -> str:
    return str(record.environment.get("started") or "")


def method_order(records: Iterable[Record], order: Sequence[str] = ()) -> list[str]:
    """Method labels in the requested order; the rest as their first cells were started, which is the suite's order."""
    first: dict[str, str] = {}
    for record in records:
        started = _started(record)
        first[record.cell.method] = min(first.get(record.cell.method, started), started)
    rest = sorted(first.keys() - set(order), key=lambda name: (first[name], name))
    return [name for name in order if name in first] + rest


def sparsity_order(sparsities: Iterable[str]) -> list[str]:
    """Sort sparsities: ratios by size, then n:m patterns by their fraction of zeros."""

    def sort_key(sparsity: str) -> tuple[int, float, float, str]:
        first, colon, second = sparsity.partition(":")
        try:
            if colon:
                return (1, -float(first) / float(second), float(second), sparsity)
            return (0, float(first), 0.0, sparsity)
        except (ValueError, ZeroDivisionError):
            return (2, math.inf, 0.0, sparsity)

    return sorted(set(sparsities), key=sort_key)


def evaluation_texts(records: Iterable[Record]) -> list[tuple[str, str]]:
    """The (protocol, text digest) pairs of records, in the order of first appearance."""
    return list(dict.fromkeys(entry for record in records for entry in protocol_digests(record).items()))


def text_titles(records: Iterable[Record]) -> dict[tuple[str, str], str]:
    """Titles of the texts of records, by protocol and digest: the protocol, with the digest if two texts have it."""
    texts = evaluation_texts(records)
    counts = Counter(protocol for protocol, _ in texts)
    return {(name, digest): name if counts[name] == 1 else f"{name} (text {digest[:8]})" for name, digest in texts}
