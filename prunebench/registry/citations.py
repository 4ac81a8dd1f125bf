"""What to cite for records that do not say: what the installed classes of their methods say now."""

from collections.abc import Iterable, Sequence
from functools import cache

from prunebench.errors import UsageError
from prunebench.records.record import MethodFacts, Record
from prunebench.registry.entry_points import load_method


def with_citations(records: Iterable[Record]) -> list[Record]:
    """The same records, those without citations with the ones of the installed methods of their names.

    Args:
        records: as they were read; those from before citations were recorded have none.
    """
    return [record if record.method is not None and record.method.cites else _completed(record) for record in records]


def _completed(record: Record) -> Record:
    cites = tuple(dict.fromkeys(one for stage in record.cell.stages for one in _installed(stage.plugin)))
    facts = record.method or MethodFacts(changes="prunable", takes_data=True)
    return record.model_copy(update={"method": facts.model_copy(update={"cites": cites})}) if cites else record


@cache
def _installed(plugin: str) -> Sequence[str]:
    try:
        return load_method(plugin).cites
    except UsageError:
        return ()
