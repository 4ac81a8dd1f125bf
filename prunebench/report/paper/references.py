"""BibTeX of what was run: of every method, as its class says, and of prunebench itself."""

import re
from collections.abc import Iterable

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, group_by, method_order

HEADER = (
    "% What the methods of this report ask to be cited with. An entry that was made of an arXiv number\n"
    "% alone has neither title nor authors: take them from its page."
)


def citations(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """What to cite, by method in the suite's order; empty where its class or its record does not say."""
    pruning = [record for record in records if record.cell.sparsity != DENSE]
    found = group_by(pruning, lambda record: record.cell.method)
    return {
        method: tuple(dict.fromkeys(one for r in found[method] if r.method is not None for one in r.method.cites))
        for method in method_order(pruning)
    }


def bibtex(records: Iterable[Record]) -> str:
    """The entries of all methods, each once, and of prunebench; a comment names methods without one.

    Args:
        records: of any models and methods.
    """
    records = list(records)
    of_methods = citations(records)
    users: dict[str, list[str]] = {}
    for method, cited in of_methods.items():
        for one in cited:
            users.setdefault(one, []).append(text.printable(method))
    silent = [text.printable(method) for method, cited in of_methods.items() if not cited]
    parts = [HEADER, *(_entry(one, methods) for one, methods in users.items()), _own_entry(records)]
    if silent:
        parts.insert(1, f"% These do not say what they are cited with: {', '.join(silent)}.")
    return "\n\n".join(parts) + "\n"


def key_of(citation: str) -> str:
    """The key under which a citation stands in ``bibtex``."""
    found = re.match(r"@\w+\{([^\s,]+),", citation)
    return found[1] if found else f"arxiv-{citation}"


def _entry(citation: str, methods: list[str]) -> str:
    used = f"% {', '.join(methods)}"
    if citation.startswith("@"):
        return f"{used}\n{citation.strip()}"
    fields = {
        "key": f"arXiv {citation}",
        "howpublished": f"arXiv preprint arXiv:{citation}",
        "eprint": citation,
        "archiveprefix": "arXiv",
        "url": f"https://arxiv.org/abs/{citation}",
        "year": f"20{citation[:2]}",
    }
    return f"{used}\n{_formatted('misc', key_of(citation), fields)}"


def _own_entry(records: list[Record]) -> str:
    versions = {str((record.environment.get("versions") or {}).get("prunebench") or "") for record in records} - {""}
    fields = {
        "title": "prunebench: a benchmark suite that compares methods for making large language models sparse",
        "author": "{The prunebench contributors}",
        "key": "prunebench",
    }
    fields |= {"version": ", ".join(sorted(map(text.printable, versions)))} if versions else {}
    return _formatted("misc", "prunebench", fields)


def _formatted(kind: str, key: str, fields: dict[str, str]) -> str:
    width = max(map(len, fields))
    lines = [f"  {name:<{width}} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
