"""Mean perplexity over seeds, with its confidence interval."""

from collections.abc import Sequence

from prunebench.records.record import Record
from prunebench.report.significance import over_seeds

Estimate = tuple[float, float, float]  # (value, low, high): the ends of its interval, NaN if there is none


def mean_perplexity(group: Sequence[Record], protocol: str) -> Estimate | None:
    """Mean perplexity over seeds and its 95 % confidence interval; None if no record has that protocol."""
    values = [record.perplexity[protocol].value for record in group if protocol in record.perplexity]
    if not values:
        return None
    summary = over_seeds(values)
    return summary.mean, max(summary.low, summary.mean / 10), summary.high  # a log axis cannot show a bound below zero
