"""Data classes of a comparison: tolerances, measures, compared cells and verdicts."""

import math
from dataclasses import dataclass
from enum import StrEnum

from prunebench.records.record import Record


class Verdict(StrEnum):
    """Whether a change is a regression, an improvement, or neither; or whether the seeds are too few to tell."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    UNCHANGED = "unchanged"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Tolerances:
    """How much worse a measure may become without being a regression.

    Args:
        perplexity: relative, 0.01 is 1 %.
        accuracy: a fraction of the questions, 0.005 is half a point.
        trained: factor on both for methods that change all parameters, since training amplifies differences in the
            order of summation.
        time, memory: relative; None, the default, never fails: the noise of a single timing is unknown.
    """

    perplexity: float = 0.01
    accuracy: float = 0.005
    trained: float = 3.0
    time: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Measure:
    """One measure of one cell, in BASE and in HEAD.

    Args:
        name: "perplexity", "accuracy", "prune time" or "peak memory".
        of: the protocol or task; empty for a cost.
        base, head: the values.
        change: relative (perplexity, time, memory) or a difference of fractions (accuracy); positive is larger.
        low, high: its confidence interval; NaN for a cost.
        p: of the paired test, adjusted for all tests of the comparison; NaN for a cost.
        tolerance: the largest change for the worse allowed; None if it is not judged.
        verdict: regression, improvement, unchanged or cannot tell.
        seed_margin: how far the change may be off because the sides have other seeds (95 %); 0 if they have the same,
            or the method gives the same with every seed; infinite if nothing shows how much seeds spread.
        seeds_needed: seeds on each side with which the margin is within the tolerance; None if there is no margin, or
            it is unknown.
    """

    name: str
    of: str
    base: float
    head: float
    change: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    tolerance: float | None = None
    verdict: Verdict = Verdict.UNCHANGED
    seed_margin: float = 0.0
    seeds_needed: int | None = None


@dataclass(frozen=True)
class ComparedCell:
    """A cell that both folders have.

    Args:
        base, head: its records.
        measures: the measures that were compared.
        refused: the reasons why something could not be compared.
        remarks: settings that differ, measures that only HEAD has.
    """

    base: Record
    head: Record
    measures: tuple[Measure, ...] = ()
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def newly_failed(self) -> bool:
        """Whether the cell succeeded in BASE and failed in HEAD."""
        return self.base.status == "ok" and self.head.status == "failed"

    def with_verdict(self, verdict: Verdict) -> list[Measure]:
        """The measures with a verdict."""
        return [measure for measure in self.measures if measure.verdict is verdict]


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two folders.

    Args:
        cells: cells that both folders have.
        only_base, only_head: records of cells that only one folder has.
        tolerances: the tolerances applied.
    """

    cells: tuple[ComparedCell, ...]
    only_base: tuple[Record, ...]
    only_head: tuple[Record, ...]
    tolerances: Tolerances

    def count(self, verdict: Verdict) -> int:
        """Number of measures with a verdict; a newly failed cell counts as one regression."""
        failed = sum(cell.newly_failed for cell in self.cells) if verdict is Verdict.REGRESSION else 0
        return failed + sum(len(cell.with_verdict(verdict)) for cell in self.cells)

    @property
    def refused(self) -> int:
        """Number of cells of which something could not be compared."""
        return sum(bool(cell.refused) for cell in self.cells)

    @property
    def compared(self) -> int:
        """Number of cells compared in full: neither failed on a side nor with too few seeds to tell."""
        return sum(
            bool(cell.measures) and not cell.refused and not cell.with_verdict(Verdict.CANNOT_TELL)
            for cell in self.cells
        )

    @property
    def exit_code(self) -> int:
        """1 for a regression; else 2 where something was refused or nothing was compared; else 0."""
        if self.count(Verdict.REGRESSION):
            return 1
        return 2 if self.refused or not self.compared else 0
