"""What a comparison of two result folders says."""

import math
from dataclasses import dataclass
from enum import StrEnum

from prunebench.records.record import Record


class Verdict(StrEnum):
    """What a change is."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Tolerances:
    """How much worse is no regression yet.

    Args:
        perplexity: relative, 0.01 is 1 %.
        accuracy: a fraction of the questions, 0.005 is half a point.
        trained: factor on both for methods that change all parameters: training ends elsewhere with every other order
            of summation.
        time, memory: relative; None, the default, never fails: nothing is known of the noise of a single timing.
    """

    perplexity: float = 0.01
    accuracy: float = 0.005
    trained: float = 3.0
    time: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Measure:
    """One measure of one cell on both sides.

    Args:
        name: "perplexity", "accuracy", "prune time" or "peak memory".
        of: the protocol or task; empty for a cost.
        base, head: the values.
        change: relative (perplexity, time, memory) or a difference of fractions (accuracy); positive is larger.
        low, high: its confidence interval; NaN for a cost.
        p: of the paired test, adjusted for all tests of the comparison; NaN for a cost.
        tolerance: what the change is held against; None where nothing is.
        verdict: what the change is.
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


@dataclass(frozen=True)
class ComparedCell:
    """A cell that is on both sides.

    Args:
        base, head: its records.
        measures: what could be compared.
        refused: what could not, with the reason.
        remarks: settings that differ, measures of one side.
    """

    base: Record
    head: Record
    measures: tuple[Measure, ...] = ()
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def newly_failed(self) -> bool:
        """Whether it ran in BASE and fails in HEAD."""
        return self.base.status == "ok" and self.head.status == "failed"

    def judged(self, verdict: Verdict) -> list[Measure]:
        """The measures of that verdict."""
        return [measure for measure in self.measures if measure.verdict is verdict]


@dataclass(frozen=True)
class Comparison:
    """All that is to be said of two folders.

    Args:
        cells: on both sides.
        only_base, only_head: cells of one side.
        tolerances: what was held against.
    """

    cells: tuple[ComparedCell, ...]
    only_base: tuple[Record, ...]
    only_head: tuple[Record, ...]
    tolerances: Tolerances

    def count(self, verdict: Verdict) -> int:
        """How many measures are of that verdict; a cell that fails anew is one regression."""
        failed = sum(cell.newly_failed for cell in self.cells) if verdict is Verdict.REGRESSION else 0
        return failed + sum(len(cell.judged(verdict)) for cell in self.cells)

    @property
    def refused(self) -> int:
        """Cells of which something could not be compared."""
        return sum(bool(cell.refused) for cell in self.cells)

    @property
    def compared(self) -> int:
        """Cells that were compared in full; one that failed on either side has nothing to compare."""
        return sum(bool(cell.measures) and not cell.refused for cell in self.cells)

    @property
    def exit_code(self) -> int:
        """1 for a regression; else 2 where something was refused or nothing was compared; else 0."""
        if self.count(Verdict.REGRESSION):
            return 1
        return 2 if self.refused or not self.compared else 0
