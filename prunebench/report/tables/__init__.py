"""Tables of a report, one module each; every module builds format-independent tables from records.

``table`` defines a table and ``best`` selects the entries to highlight; ``prunebench.report.sections.all_tables`` joins
the tables of a report.
"""

from prunebench.report.tables.table import Table, caption

__all__ = ["Table", "caption"]
