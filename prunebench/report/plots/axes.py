"""What plots are made of: records that may be compared, their colours, and the axis that they share."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import (
    DENSE,
    Setting,
    baselines_of,
    grouped,
    method_order,
    protocols,
    sparsity_order,
    tabled_settings,
)
from prunebench.report.plots.plot import Axis, Plot


@dataclass(frozen=True)
class Scene:
    """What one plot may compare: one model, one setting.

    Args:
        setting: what its records share.
        words: what tells it apart from other settings of the model, for titles.
        base: records of the dense model, by method.
        entries: records (seeds) of each (method, sparsity) that ran.
        failed: those of which some seed failed.
    """

    setting: Setting
    words: str
    base: dict[str, Record]
    entries: dict[tuple[str, str], list[Record]] = field(repr=False)
    failed: frozenset[tuple[str, str]] = frozenset()

    @property
    def sparsities(self) -> list[str]:
        """Of all entries, in order."""
        return sparsity_order(sparsity for _, sparsity in self.entries)

    def methods(self, looks: dict[str, int]) -> list[str]:
        """Of all entries, in the order of their looks."""
        return sorted({method for method, _ in self.entries}, key=lambda method: looks[method])


def scenes(records: Sequence[Record]) -> list[Scene]:
    """Everything that plots are made of, for each model and setting.

    Args:
        records: of any models; of failed ones it is only said that they are.
    """
    found = []
    for of_model in grouped(records, lambda record: record.cell.model).values():
        groups = tabled_settings(of_model)
        for setting, group in groups.items():
            base = baselines_of(of_model, setting)
            pruned = [r for r in group if r.status == "ok" and r.cell.method not in base]
            found.append(
                Scene(
                    setting=setting,
                    words=setting.words(groups) if len(groups) > 1 else "",
                    base={method: record for method, record in base.items() if record.status == "ok"},
                    entries=grouped(pruned, lambda record: (record.cell.method, record.cell.sparsity)),
                    failed=frozenset((r.cell.method, r.cell.sparsity) for r in group if r.status == "failed"),
                )
            )
    return found


def looks_of(records: Iterable[Record], order: Sequence[str] = ()) -> dict[str, int]:
    """A number for each method that prunes: the same colour and mark wherever it appears."""
    pruning = [record for record in records if record.cell.sparsity != DENSE]
    return {method: number for number, method in enumerate(method_order(pruning, order))}


def slug(*words: str) -> str:
    """A file name's stem."""
    kept = "".join(sign if sign.isalnum() or sign == "." else "-" for sign in "--".join(map(text.plain, words)))
    while "---" in kept:
        kept = kept.replace("---", "--")
    return kept.strip("-.")[:120]


def titled(*parts: str) -> str:
    """A title from its parts; empty ones fall out."""
    return ", ".join(text.plain(part) for part in parts if part)


def ratio_of(sparsity: str) -> float:
    """The fraction that a sparsity names; NaN for an n:m pattern."""
    try:
        return float(sparsity)
    except ValueError:
        return math.nan


def sparsity_axis(sparsities: Sequence[str]) -> tuple[Axis, dict[str, float]]:
    """An axis for fractions of zeros, with a place of its own for each n:m pattern to their right.

    Returns:
        The axis, and where each sparsity stands on it, in percent for fractions.
    """
    ordered = sparsity_order(sparsities)
    places = {sparsity: 100 * ratio_of(sparsity) for sparsity in ordered if math.isfinite(ratio_of(sparsity))}
    gap = max(10.0, (max(places.values()) - min(places.values())) / 5) if places else 10.0
    ticks = [(place, f"{place:g}") for place in places.values()]
    for pattern in ordered:
        if pattern not in places:
            places[pattern] = max(places.values(), default=0.0) + gap
            ticks.append((places[pattern], pattern))
    return Axis("zeros in the pruned matrices (%)", ticks=tuple(ticks)), places


def texts(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Perplexity protocols of some records, each with the digest of its text."""
    return list(dict.fromkeys(entry for record in records for entry in protocols(record).items()))


def text_title(protocol: str, digest: str, among: Iterable[tuple[str, str]]) -> str:
    """What a text is called: its protocol, and where two are alike the digest."""
    return protocol if [name for name, _ in among].count(protocol) == 1 else f"{protocol} (text {digest[:8]})"


def on_text(records: Iterable[Record], protocol: str, digest: str) -> list[Record]:
    """Records of cells that are measured on one text."""
    return [record for record in records if protocols(record).get(protocol) == digest]


def shown(plots: Iterable[Plot]) -> list[Plot]:
    """Plots that have something to show, each under a file name of its own."""
    names: Counter[str] = Counter()
    kept = []
    for plot in plots:
        if any(series.points for series in plot.series):
            names[plot.name] += 1
            again = names[plot.name] - 1
            kept.append(replace(plot, name=f"{plot.name}--{again}") if again else plot)
    return kept
