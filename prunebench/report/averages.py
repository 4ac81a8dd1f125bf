"""Averages over seeds."""

from collections.abc import Sequence

from prunebench.records.record import Record
from prunebench.report.significance import over_seeds

Estimate = tuple[float, float, float]  # a value and the ends of its interval, NaN where there is none


def mean_perplexity(group: Sequence[Record], protocol: str) -> Estimate | None:
    """Mean over seeds, and its 95 % interval."""
    values = [record.perplexity[protocol].value for record in group if protocol in record.perplexity]
    if not values:
        return None
    found = over_seeds(values)
    return found.mean, max(found.low, found.mean / 10), found.high  # a log axis has no place for less than nothing
