"""Figures of several sources: which of them measured the same, and which of those cannot both be right."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from prunebench.records.cell_facts import PublishedFigure

# The dense model's perplexity is the same for everybody, up to the digits printed and to kernels.
DENSE_TOLERANCE = 0.005


def measure_of(figure: PublishedFigure) -> Hashable | None:
    """What figures have in common that may be compared; None where too little is known of one."""
    return (
        None if figure.protocol is None and figure.seqlen is None else (figure.corpus, figure.seqlen, figure.protocol)
    )


@dataclass(frozen=True)
class Disagreement:
    """Two sources that give the dense model different perplexities under one protocol.

    Args:
        one, other: the lowest and the highest figure.
    """

    one: PublishedFigure
    other: PublishedFigure

    @property
    def share(self) -> float:
        """By how much the higher figure exceeds the lower one."""
        return self.other.comparable / self.one.comparable - 1

    def __str__(self) -> str:
        name = self.one.protocol or f"{self.one.corpus} in windows of {self.one.seqlen}"
        figures = " and ".join(map(_told, (self.one, self.other)))
        return f"{figures} on {name}, {self.share:.1%} apart"


def _told(figure: PublishedFigure) -> str:
    without = f", {figure.comparable:.4g} with our exponent" if figure.exponent else ""
    return f"{figure.perplexity:g} ({figure.source}{without})"


def dense_disagreements(figures: Iterable[PublishedFigure]) -> list[Disagreement]:
    """Where sources disagree on a dense model.

    Args:
        figures: of one dense model.
    """
    groups: dict[Hashable, list[PublishedFigure]] = {}
    for figure in figures:
        if (measure := measure_of(figure)) is not None:
            groups.setdefault(measure, []).append(figure)
    found = []
    for group in groups.values():
        ordered = sorted(group, key=lambda figure: figure.comparable)
        if (apart := Disagreement(ordered[0], ordered[-1])).share > DENSE_TOLERANCE:
            found.append(apart)
    return found
