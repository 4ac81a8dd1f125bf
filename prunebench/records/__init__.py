"""Records: one JSON file per cell, the file of arrays beside it, and folders of records.

``record`` defines what a record holds, ``store`` reads and writes records and their arrays, ``arrays`` caches the
arrays of a folder, ``quarantine`` moves damaged records away, ``merge`` joins folders, and ``canonical_json`` parses
strict JSON and computes its digest.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.records.arrays import ArrayStore
    from prunebench.records.merge import merge_records
    from prunebench.records.record import SCHEMA, Record
    from prunebench.records.store import read_record, read_records, write_record

__all__ = ["SCHEMA", "ArrayStore", "Record", "merge_records", "read_record", "read_records", "write_record"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "arrays": "ArrayStore",
        "merge": "merge_records",
        "record": "SCHEMA Record",
        "store": "read_record read_records write_record",
    },
)
