"""Which methods of a table may be called the best: a model confidence set over seeds and sequences."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from prunebench.report.noise import Noise, Seeds, fit

ERROR_RATE = 0.05  # share of tables in which a method as good as the best is called worse
DRAWS = 2000
MOST_BLOCKS = 30  # more degrees of freedom hardly change a limit
ROUNDING = 1e-9  # relative; means that differ by less are equal
# Simulated tables have seed variances that differ more than the estimates, which are drawn together, and that are as
# uncertain as variances with so much of the prior's degrees of freedom. Chosen by benchmarks/significance.py for errors
# of 5 % with equal spreads and little more with unequal ones.
CENTRE_PRIOR = 0.7
SPREAD_PRIOR = 0.5

Mark = Literal["best", "tie", "worse", "unmarked"]


def best(losses: Mapping[str, Seeds], *, weights: np.ndarray | None = None, resolution: float = 0.0) -> dict[str, Mark]:
    """Name the method with the lowest mean loss, and the methods that are worse beyond noise.

    The estimand of a method is its mean loss over all seeds and over all sequences of texts like this one. The
    procedure is a model confidence set (Hansen, Lunde & Nason, Econometrica 79, 2011): as long as the remaining methods
    are not all alike, the one that is most significantly worse than another is eliminated and called "worse". They are
    not alike if the largest studentised difference of two of them, or that of the lowest from the mean of the others,
    is larger than in 95 % of simulations in which all have the same mean and the estimated noise. The share of tables
    with a method that equals the best and is called worse is at most about 5 %, for any number of methods.

    Args:
        losses: method → {seed: (sequences,) mean losses in nats}; all arrays are of the same sequences in the same
            order. Methods may have other seeds, and other numbers of them: seeds are not paired, sequences are. A
            deterministic method has the same array under each of two or more seeds. A method with a loss that is not
            finite is worse than any without.
        weights: (sequences,): weights of the sequences in the mean, such as their numbers of tokens; None: all alike.
        resolution: variance added to that of a difference over sequences, for losses that are counts.

    Returns:
        method → "best", the lowest mean of those that are not worse; "tie", not worse; "worse"; or "unmarked", if
        nothing can be said: with one seed where no other method shows how much seeds differ, with fewer than two
        sequences, or without a competitor. docs/reading.md states the assumptions.

    Raises:
        ValueError: the arrays differ in shape.
    """
    marks: dict[str, Mark] = dict.fromkeys(losses, "unmarked")
    shapes = {np.shape(array) for seeds in losses.values() for array in seeds.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"losses of several methods must be arrays of the same sequences, but have shapes {shapes}")
    if weights is not None and shapes and {np.shape(weights)} != shapes:
        raise ValueError(f"weights have the shape {np.shape(weights)}, losses {next(iter(shapes))}")
    judged = {name: seeds for name, seeds in losses.items() if seeds}
    if not any(_random(seeds) for seeds in judged.values() if len(seeds) > 1):
        judged = {name: seeds for name, seeds in judged.items() if len(seeds) > 1}
    finite = {name: s for name, s in judged.items() if all(np.isfinite(array).all() for array in s.values())}
    if len(judged) < 2 or not finite or next(iter(shapes))[0] < 2:
        return marks
    names = list(finite)
    eliminated: list[int] = []
    means = np.zeros(1)
    if len(names) > 1:
        noise = fit([finite[name] for name in names], weights)
        means = noise.means
        eliminated = eliminate(noise, resolution)
    remaining = [index for index in range(len(names)) if index not in eliminated]
    lowest = min(remaining, key=means.__getitem__)
    marks |= dict.fromkeys(judged, "worse")
    marks |= {names[index]: "tie" for index in remaining}
    marks[names[lowest]] = "best"
    return marks


def _random(seeds: Seeds) -> bool:
    first, *others = seeds.values()
    return any(not np.array_equal(first, other, equal_nan=True) for other in others)


def eliminate(noise: Noise, resolution: float = 0.0) -> list[int]:
    """The methods that are worse than the best beyond noise, the worst first.

    Args:
        noise: means and noise of at least two methods.
        resolution: see ``best``.
    """
    count = len(noise.means)
    rng = np.random.default_rng(0)
    seed_variance = noise.seed_variance(noise.own) / noise.seeds
    text = _text_part(noise, seed_variance)
    smallest = (ROUNDING * float(np.abs(noise.means).max())) ** 2 + np.finfo(float).tiny
    text += np.eye(count) * max(resolution, smallest) / 2
    first, second = np.triu_indices(count, 1)

    # Simulated tables in which all methods have the same mean.
    true_variance = np.tile(noise.seed_variance(noise.own, CENTRE_PRIOR * noise.prior), (DRAWS, 1))
    ratios = np.ones((DRAWS, count))
    for index in np.flatnonzero(noise.freedom):
        known = noise.freedom[index] + SPREAD_PRIOR * noise.prior
        true_variance[:, index] *= known / np.maximum(rng.chisquare(known, DRAWS), np.finfo(float).tiny)
        ratios[:, index] = rng.chisquare(noise.freedom[index], DRAWS) / noise.freedom[index]
    drawn_variance = noise.seed_variance(true_variance * ratios) / noise.seeds
    true_root = np.sqrt(true_variance / noise.seeds)
    values, vectors = np.linalg.eigh(text)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = rng.standard_normal((DRAWS, count)) * true_root + rng.standard_normal((DRAWS, count)) @ root.T
    blocks = max(1, int(min(noise.text_freedom, MOST_BLOCKS)))
    samples = rng.standard_normal((DRAWS, blocks, count)) @ root.T
    drawn_text = samples.transpose(0, 2, 1) @ samples / blocks  # Wishart
    drawn_pairs = (drawn[:, first] - drawn[:, second]) / np.sqrt(
        drawn_variance[:, first]
        + drawn_variance[:, second]
        + drawn_text[:, first, first]
        + drawn_text[:, second, second]
        - 2 * drawn_text[:, first, second]
    )
    pairs = (noise.means[first] - noise.means[second]) / np.sqrt(
        seed_variance[first]
        + seed_variance[second]
        + text[first, first]
        + text[second, second]
        - 2 * text[first, second]
    )

    remaining, eliminated = list(range(count)), []
    while len(remaining) > 1:
        subset = np.array(remaining)
        inside = np.isin(first, subset) & np.isin(second, subset)
        rows = np.ix_(np.arange(DRAWS), subset, subset)
        lead = _lead(noise.means[None, subset], seed_variance[None, subset], text[None, *np.ix_(subset, subset)])[0]
        shown = np.array([np.abs(pairs[inside]).max(), lead])
        simulated = np.stack(
            [
                np.abs(drawn_pairs[:, inside]).max(axis=1),
                _lead(drawn[:, subset], drawn_variance[:, subset], drawn_text[rows]),
            ]
        )
        limits = np.quantile(simulated, 1 - ERROR_RATE, axis=1)
        together = np.quantile((simulated / limits[:, None]).max(axis=0), 1 - ERROR_RATE)
        if not (shown / limits).max() > together:
            break
        strongest = np.flatnonzero(inside)[np.abs(pairs[inside]).argmax()]
        worst = int(first[strongest] if pairs[strongest] > 0 else second[strongest])
        remaining.remove(worst)
        eliminated.append(worst)
    return eliminated


def _text_part(noise: Noise, seed_variance: np.ndarray) -> np.ndarray:
    """Covariance over sequences without what the variance between the means of the seeds holds already."""
    count = len(noise.means)
    centre = np.eye(count) - 1 / count
    text: np.ndarray = centre @ noise.text @ centre  # the difficulty that all share cancels in every difference
    total = float(np.trace(text)) / (count - 1)
    if total <= 0:
        return text
    shared = min(float(noise.rest.mean()), float(seed_variance.mean()), total)
    return text * (1 - shared / total)


def _lead(means: np.ndarray, seed_variance: np.ndarray, text: np.ndarray) -> np.ndarray:
    """(tables,): how far the mean of the other methods lies above the lowest, in standard errors.

    Args:
        means, seed_variance: (tables, methods).
        text: (tables, methods, methods).
    """
    tables, count = means.shape
    contrasts = np.full((tables, count), 1 / (count - 1))
    contrasts[np.arange(tables), means.argmin(axis=1)] = -1.0
    variances = (np.square(contrasts) * seed_variance).sum(axis=1)
    variances += ((contrasts[:, None, :] @ text)[:, 0] * contrasts).sum(axis=1)
    lead: np.ndarray = (contrasts * means).sum(axis=1) / np.sqrt(variances)
    return lead
