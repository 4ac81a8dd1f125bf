"""Records: one JSON file per cell, the file of arrays beside it, and folders of records.

``record`` defines what a record holds, ``store`` reads and writes records and their arrays, ``arrays`` caches the
arrays of a folder, ``quarantine`` moves damaged records away, ``merge`` joins folders, and ``canonical_json`` parses
strict JSON and computes its digest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunebench.records.arrays import ArrayStore
    from prunebench.records.merge import merge_records
    from prunebench.records.record import SCHEMA, Record
    from prunebench.records.store import read_record, read_records, write_record

__all__ = ["SCHEMA", "ArrayStore", "Record", "merge_records", "read_record", "read_records", "write_record"]

_MODULES = {
    "SCHEMA": "record",
    "ArrayStore": "arrays",
    "Record": "record",
    "merge_records": "merge",
    "read_record": "store",
    "read_records": "store",
    "write_record": "store",
}


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` at its first use (PEP 562), so that importing one module does not load all."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
