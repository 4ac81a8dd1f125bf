"""What captions tell of tuning: how many trials chose a method's options, on which text, and what they took."""

import math
from collections.abc import Iterable

from prunebench import text
from prunebench.records.cell_facts import TuningFacts
from prunebench.records.record import Record
from prunebench.report.grouping import group_by


def tuning_caption(records: Iterable[Record]) -> str:
    """The trials that chose the options of a table's rows; empty where no row was tuned.

    Args:
        records: of one model.

    Returns:
        As "options tuned on mine/stream-128 (validation): 6 trials of 524 k training tokens each at 0.9 for each of
        elsa, gmp; elsa-long as elsa".
    """
    found = _searches(records)
    texts = dict.fromkeys(
        facts.text if facts.split is None else f"{facts.text} ({facts.split})"
        for searches in found.values()
        for facts in searches
    )
    alike = group_by(found, lambda method: (_trials(found[method]), _likes(found[method])))
    told = []
    for (trials, others), names in alike.items():
        if not others:
            told.append(f"{trials} for {'each of ' if len(names) > 1 else ''}{', '.join(names)}")
        elif all(other in found for other in others):  # whose own trials are told of
            told.append(f"{', '.join(names)} as {', '.join(others)}")
        else:
            told.append(f"{', '.join(names)} as {', '.join(others)}, {trials}")
    return f"options tuned on {', '.join(texts)}: {'; '.join(told)}" if found else ""


def tuning_cost(records: Iterable[Record]) -> str:
    """How long the trials took to prune, by method; empty where no method had trials of its own."""
    own = {
        method: math.fsum(facts.seconds for facts in searches if facts.like is None)
        for method, searches in _searches(records).items()
        if any(facts.like is None for facts in searches)
    }
    told = ", ".join(f"{method} {text.seconds(seconds)}" for method, seconds in own.items())
    return f"trials took besides: {told}" if own else ""


def _searches(records: Iterable[Record]) -> dict[str, list[TuningFacts]]:
    """By method, what chose its options; one for each sparsity at which was searched."""
    found: dict[str, dict[tuple[str, str, str | None], TuningFacts]] = {}
    for record in records:
        if (facts := record.cell.tuning) is not None:
            found.setdefault(record.cell.method, {})[facts.text, facts.sparsity, facts.like] = facts
    return {method: list(searches.values()) for method, searches in found.items()}


def _trials(searches: list[TuningFacts]) -> str:
    counts = dict.fromkeys(str(facts.trials) for facts in searches)
    tokens = text.span((count for facts in searches for count in facts.tokens), text.count)
    return (
        f"{' to '.join(counts)} trials of {tokens} training tokens each at "
        f"{', '.join(dict.fromkeys(facts.sparsity for facts in searches))}"
    )


def _likes(searches: list[TuningFacts]) -> tuple[str, ...]:
    """The methods whose trials chose these options, where they had none of their own."""
    return tuple(dict.fromkeys(facts.like for facts in searches if facts.like is not None))
