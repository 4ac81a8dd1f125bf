"""Tables of a report, one module each; every module builds format-independent tables.

What compares cells takes scenes, see ``prunebench.report.scene``, and what lists cells takes the records shown. To add
a table, write a function of either that returns a list of ``Table``, and call it in ``prunebench.report.sections``.
``table`` defines a table, and ``best`` selects the entries to highlight.
"""

from prunebench.report.tables.table import Table, caption

__all__ = ["Table", "caption"]
