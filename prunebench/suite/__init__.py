"""The suite: what a file asks for, read, checked, and planned as cells.

``schema`` defines the format: ``entries``, ``method_entries`` and ``evaluation_entries``, whose values are ``fields``.
``file`` reads a suite, ``planning`` turns it into the cells that ``cell`` defines, ``allocations`` and ``published``
resolve what it names, and ``json_schema`` describes the format to editors.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.suite.cell import Cell
    from prunebench.suite.file import load_suite
    from prunebench.suite.json_schema import suite_schema
    from prunebench.suite.planning import plan
    from prunebench.suite.schema import Suite

__all__ = ["Cell", "Suite", "load_suite", "plan", "suite_schema"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "cell": "Cell",
        "file": "load_suite",
        "json_schema": "suite_schema",
        "planning": "plan",
        "schema": "Suite",
    },
)
