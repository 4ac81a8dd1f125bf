"""Mean perplexity over seeds and sequences, with its confidence interval."""

import math
from collections.abc import Mapping, Sequence

from prunebench.records.arrays import ArrayStore
from prunebench.records.record import Record
from prunebench.report.intervals import mean_losses, over_seeds
from prunebench.report.paired import sequence_losses

Estimate = tuple[float, float, float]  # (value, low, high): the ends of its interval, NaN if there is none


def mean_perplexity(group: Sequence[Record], protocol: str) -> Estimate | None:
    """Mean perplexity over seeds and its 95 % confidence interval; None if no record has that protocol."""
    values = [record.perplexity[protocol].value for record in group if protocol in record.perplexity]
    if not values:
        return None
    summary = over_seeds(values)
    return summary.mean, max(summary.low, summary.mean / 10), summary.high  # a log axis cannot show a bound below zero


def mean_perplexities(
    groups: Mapping[str, Sequence[Record]], protocol: str, array_store: ArrayStore | None
) -> dict[str, Estimate]:
    """Mean perplexities of the methods at one sparsity, with 95 % intervals over seeds and sequences.

    Args:
        groups: by method, the records of its seeds.
        protocol: the perplexity protocol; records without it are left out.
        array_store: the arrays of the records. Without them, or if they are of different sequences, the intervals are
            over seeds alone.
    """
    measured = {name: [r for r in group if protocol in r.perplexity] for name, group in groups.items()}
    measured = {name: group for name, group in measured.items() if group}
    found = {name: estimate for name, group in measured.items() if (estimate := mean_perplexity(group, protocol))}
    if array_store is None:
        return found
    losses = sequence_losses(
        protocol, [{r.cell.seed: array_store.read(r) for r in group} for group in measured.values()]
    )
    if losses is None:
        return found
    for name, interval in zip(measured, mean_losses(*losses), strict=True):
        if math.isfinite(interval.high):
            found[name] = (found[name][0], math.exp(interval.low), math.exp(min(interval.high, 700.0)))
    return found
