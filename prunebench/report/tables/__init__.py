"""Tables of a report, one module each; every module builds format-independent tables.

What compares cells takes scenes, which ``prunebench.report.scenes`` groups once for the whole report, and what lists
cells takes the records that are shown: to add a table, write a function of either, and name it in
``prunebench.report.sections``. ``table`` defines a table, and ``best`` selects the entries to highlight.
"""

from prunebench.report.tables.table import Table, caption

__all__ = ["Table", "caption"]
