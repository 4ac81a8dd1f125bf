"""How far the seeds of one method spread, and how many of them would show a change of a given size."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from prunebench.report.intervals import CONFIDENCE

MOST_SEEDS = 1000


def pooled_spread(*sides: Sequence[float]) -> float:
    """The standard deviation between seeds, pooled over versions of a method; NaN where no side has two seeds."""
    arrays = [np.asarray(values, dtype=np.float64) for values in sides]
    freedom = sum(len(values) - 1 for values in arrays if len(values))
    if freedom < 1:
        return math.nan
    return math.sqrt(sum(float(np.square(values - values.mean()).sum()) for values in arrays if len(values)) / freedom)


def difference_of_runs(spread: float, seeds: int) -> float:
    """How far two runs with different seeds differ at most in 95 % of cases, if ``spread`` is known from some seeds."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, max(seeds - 1, 1))) * math.sqrt(2) * spread


def seed_margin(spread: float, base: int, head: int) -> float:
    """Half the width of the 95 % interval of a difference of means over seeds, from the spread between seeds alone.

    Args:
        spread: pooled standard deviation between seeds; NaN if unknown.
        base, head: number of seeds of each side.

    Returns:
        The margin in the unit of ``spread``; infinite if that is unknown.
    """
    if math.isnan(spread):
        return math.inf
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, base + head - 2)) * spread * math.sqrt(1 / base + 1 / head)


def seeds_needed(spread: float, tolerance: float) -> int | None:
    """The number of seeds on each side with which the interval of their difference is no wider than ± ``tolerance``.

    Args:
        spread: standard deviation between seeds, in the unit of ``tolerance``.
        tolerance: the largest change allowed.

    Returns:
        At least 2; None if the spread is unknown, or if more than ``MOST_SEEDS`` were needed.
    """
    if not math.isfinite(spread) or tolerance <= 0:
        return None
    return next((n for n in range(2, MOST_SEEDS + 1) if seed_margin(spread, n, n) <= tolerance), None)
