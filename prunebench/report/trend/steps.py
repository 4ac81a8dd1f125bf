"""Steps in a series of numbers: where its level changes by more than noise explains.

The series is modelled as pieces of constant level with independent normal noise. The pieces are those with the least
sum of squares plus a penalty for each step (optimal partitioning: Jackson et al., IEEE Signal Processing Letters 12,
2005), found exactly by dynamic programming. The penalty is the square of the number of standard errors that the largest
of all possible single steps exceeds with a given small probability where there is no step; of few numbers, from which
the noise is known badly, more of them (Student's distribution in place of the normal one).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

LEVEL = 0.001  # probability of a step in a series without any
FEWEST = 8  # points from which neighbours tell the noise
MAD_OF_NORMAL = 0.6745  # median absolute deviation of a standard normal variable


@dataclass(frozen=True)
class Step:
    """A change of level.

    Args:
        index: of the first point of the new level.
        before, after: mean of the pieces on its two sides.
        stderr: standard error of their difference.
    """

    index: int
    before: float
    after: float
    stderr: float

    @property
    def change(self) -> float:
        """The difference of the levels."""
        return self.after - self.before


def find_steps(
    values: Sequence[float], noise: Sequence[float], level: float = LEVEL, freedom: float = math.inf
) -> list[Step]:
    """The steps in a series, in their order; none where the noise is unknown.

    Args:
        values: the points, finite.
        noise: standard error of each, above zero; NaN if unknown.
        level: probability of finding any step where there is none.
        freedom: degrees of freedom of the noise, where it was estimated.
    """
    if not all(map(math.isfinite, noise)):
        return []
    x, weight = np.asarray(values, dtype=np.float64), 1 / np.square(np.asarray(noise, dtype=np.float64))
    n = len(x)
    if n < 2:
        return []
    x = x - x.mean()  # sums of squares then lose no digits
    sums = [np.concatenate([[0.0], np.cumsum(part)]) for part in (weight, weight * x, weight * x * x)]
    penalty = penalty_of(n, level, freedom)
    best, last = np.zeros(n + 1), np.zeros(n + 1, dtype=int)
    best[0] = -penalty
    for end in range(1, n + 1):
        w, wx, wxx = (part[end] - part[:end] for part in sums)
        costs = best[:end] + wxx - wx * wx / w + penalty
        last[end] = int(costs.argmin())
        best[end] = costs[last[end]]
    bounds = [n]
    while bounds[0]:
        bounds.insert(0, int(last[bounds[0]]))
    pieces = [slice(start, end) for start, end in pairwise(bounds)]
    means = [float(np.average(np.asarray(values)[piece], weights=weight[piece])) for piece in pieces]
    errors = [1 / math.sqrt(weight[piece].sum()) for piece in pieces]
    return [
        Step(pieces[i].start, means[i - 1], means[i], math.hypot(errors[i - 1], errors[i]))
        for i in range(1, len(pieces))
    ]


def penalty_of(points: int, level: float, freedom: float = math.inf) -> float:
    """By how much a step must lower the sum of squares, in units of the noise: Bonferroni's bound over all places."""
    return float(stats.t.isf(level / max(points - 1, 1) / 2, freedom)) ** 2


def noise_between_neighbours(values: Sequence[float]) -> float:
    """Standard deviation of single points, from the differences of neighbours; a few steps do not disturb it.

    It has about a third as many degrees of freedom as there are differences (``freedom_of_neighbours``).

    Returns:
        0 for fewer points than ``FEWEST``.
    """
    if len(values) < FEWEST:
        return 0.0
    return float(np.median(np.abs(np.diff(values)))) / (MAD_OF_NORMAL * math.sqrt(2))


def freedom_of_neighbours(points: int) -> float:
    """Degrees of freedom of ``noise_between_neighbours``; by simulation steps are then as rare as they should be."""
    return (points - 1) / 3
