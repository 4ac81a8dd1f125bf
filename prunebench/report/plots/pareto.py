"""Pareto fronts of perplexity against model size, in non-zero parameters and in bytes."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.budgets import HEADERS, columns_of, described
from prunebench.report.plots.axes import drop_empty, file_stem, join_title
from prunebench.report.plots.plot import Axis, Plot, Series
from prunebench.report.scene import TextScene
from prunebench.report.tables.table import Table, caption

SIZES = (("non-zero parameters", "nonzero"), ("bytes", "size"))


@dataclass(frozen=True)
class Candidate:
    """One model, dense or pruned, as a candidate for a Pareto front.

    Args:
        model, method, sparsity: as in the record.
        dense: whether nothing was pruned.
        perplexity: mean over seeds.
        nonzero: number of non-zero parameters.
        size: bytes in a sparse format; see ``sparse_bytes``.
        training: how it was trained, and on how many tokens; see ``prunebench.report.budgets``.
        described: the same in words.
    """

    model: str
    method: str
    sparsity: str
    dense: bool
    perplexity: float
    nonzero: float
    size: float
    training: tuple[str, str]
    described: str


def nonzero_parameters(record: Record) -> float:
    """Number of non-zero parameters of the whole model; NaN if the record does not say."""
    facts = record.sparsity
    if facts is None or facts.parameters is None:
        return math.nan
    return round(facts.parameters * (1 - facts.whole_model))


def sparse_bytes(record: Record) -> float:
    """Bytes of the weights with each pruned matrix stored as a bit mask and its non-zero values.

    A matrix for which that is larger is stored as it is, and so is everything that is not pruned. NaN if the record
    does not say.
    """
    facts = record.sparsity
    if facts is None or not facts.parameters or facts.parameter_bytes is None:
        return math.nan
    width = facts.parameter_bytes / facts.parameters
    saved = sum(max(0.0, width * m.zeros - math.ceil(m.numel / 8)) for m in facts.matrices.values())
    return facts.parameter_bytes - saved


def comparable_families(scenes: Sequence[TextScene]) -> list[tuple[str, list[Candidate]]]:
    """Group models with comparable perplexities: those that predicted the same number of tokens of the same text.

    A different tokenizer gives different tokens to predict, and a different perplexity.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.texts``.

    Returns:
        (protocol, candidates) of each family; candidates without a size or a finite perplexity are left out.
    """
    families: dict[tuple[str, int], dict[Candidate, None]] = {}
    for scene in scenes:
        for tokens, part in _by_tokens(scene).items():
            for (method, _), group in part.rows.items():
                candidate = _candidate(group, scene.protocol, dense=method in part.baselines)
                if math.isfinite(candidate.perplexity) and math.isfinite(candidate.nonzero):
                    families.setdefault((scene.title, tokens), {})[candidate] = None
    protocols = {scene.title: scene.protocol for scene in scenes}
    return [(protocols[title], list(candidates)) for (title, _), candidates in families.items()]


def _by_tokens(scene: TextScene) -> dict[int, TextScene]:
    """The measured part of a scene by the number of tokens that were predicted."""

    def predicted(record: Record) -> int | None:
        facts = record.perplexity.get(scene.protocol)
        return None if facts is None or record.status == "failed" else facts.tokens

    def part(count: int) -> TextScene:
        return scene.where(lambda record: predicted(record) == count)

    counts = dict.fromkeys(map(predicted, scene.records))
    return {count: part(count) for count in counts if count is not None}


def _candidate(group: Sequence[Record], protocol: str, *, dense: bool) -> Candidate:
    cell = group[0].cell
    return Candidate(
        model=cell.model,
        method=cell.method,
        sparsity=cell.sparsity,
        dense=dense,
        perplexity=statistics.fmean(record.perplexity[protocol].value for record in group),
        nonzero=statistics.fmean(nonzero_parameters(record) for record in group),
        size=statistics.fmean(sparse_bytes(record) for record in group),
        training=columns_of(group),
        described=described(group),
    )


def pareto_front(candidates: Iterable[Candidate], by: str) -> list[Candidate]:
    """The Pareto front: candidates that no other beats in both size and perplexity, the smallest first.

    Args:
        candidates: candidates of one family.
        by: the field that holds their size, ``nonzero`` or ``size``.
    """
    best: list[Candidate] = []
    sized = [candidate for candidate in candidates if math.isfinite(getattr(candidate, by))]
    for candidate in sorted(sized, key=lambda candidate: (getattr(candidate, by), candidate.perplexity)):
        if not best or candidate.perplexity < best[-1].perplexity:
            best.append(candidate)
    return best


def pareto_plots(scenes: Sequence[TextScene]) -> list[Plot]:
    """Perplexity against size for each family of models, with the Pareto front; by non-zero parameters and by bytes.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.texts``.
    """
    plots = []
    styles = scenes[0].styles if scenes else {}
    for protocol, candidates in comparable_families(scenes):
        for label, by in SIZES:
            scale, unit = _unit(max(getattr(candidate, by) for candidate in candidates)) if by == "size" else (1.0, "")

            def point(candidate: Candidate, by: str = by, scale: float = scale) -> tuple[float, float]:
                return getattr(candidate, by) / scale, candidate.perplexity

            best = pareto_front(candidates, by)
            dense = sorted((candidate for candidate in candidates if candidate.dense), key=point)
            series = [Series("the front", None, tuple(map(point, best)), markers=False, steps=True, faint=True)]
            pruned = [candidate for candidate in candidates if not candidate.dense]
            for method in sorted({candidate.method for candidate in pruned}, key=list(styles).index):
                for faint in (True, False):
                    of_method = [
                        c for c in candidates if c.method == method and not c.dense and (c not in best) == faint
                    ]
                    series.append(Series(method, styles[method], tuple(map(point, of_method)), line=False, faint=faint))
            models = [candidate.model for candidate in dense]
            names = tuple(model if models.index(model) == place else "" for place, model in enumerate(models))
            series.append(Series("dense models", None, tuple(map(point, dense)), names=names, line=False))
            plots.append(
                Plot(
                    name=file_stem("pareto", by, protocol),
                    title=join_title(f"Perplexity on {protocol} against {label}"),
                    panel=join_title(protocol, label),
                    x=Axis(unit or label, "log"),
                    y=Axis("perplexity", "log"),
                    series=tuple(entry for entry in series if entry.points),
                )
            )
    return drop_empty(plots)


def _unit(largest: float) -> tuple[float, str]:
    """The divisor and name of a unit in which a number of bytes has few digits."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if largest >= 1024.0**power:
            return 1024.0**power, unit
    return 1.0, "bytes"


def front_tables(scenes: Sequence[TextScene]) -> list[Table]:
    """The models on each Pareto front, the smallest first.

    Args:
        scenes: see ``pareto_plots``.
    """
    tables = []
    for protocol, candidates in comparable_families(scenes):
        by_count, by_bytes = (pareto_front(candidates, by) for _, by in SIZES)
        rows = [candidate for candidate in candidates if candidate in by_count or candidate in by_bytes]
        tables.append(
            Table(
                caption(f"On the front of perplexity on {protocol}", f"{len(rows)} of {len(candidates)} models"),
                (
                    "model",
                    "method",
                    *HEADERS,
                    "sparsity",
                    "non-zero parameters",
                    "bytes",
                    "perplexity",
                    "on the front by",
                ),
                tuple(
                    (
                        candidate.model,
                        candidate.method,
                        *candidate.training,
                        candidate.sparsity,
                        text.count(candidate.nonzero),
                        text.size(candidate.size) if math.isfinite(candidate.size) else text.MISSING,
                        text.number(candidate.perplexity),
                        " and ".join(
                            word for word, best in (("parameters", by_count), ("bytes", by_bytes)) if candidate in best
                        ),
                    )
                    for candidate in sorted(rows, key=lambda candidate: candidate.nonzero)
                ),
            )
        )
    return tables
