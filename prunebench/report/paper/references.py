"""BibTeX of what was run: of every method, as its class says, and of prunebench itself."""

from collections.abc import Iterable

from prunebench import text
from prunebench.records.record import Record
from prunebench.report.grouping import DENSE, group_by, method_order
from prunebench.report.paper.citation import ARXIV, keys_of

HEADER = (
    "% What the methods of this report ask to be cited with. An entry that was made of an arXiv number\n"
    "% alone has neither title nor authors: take them from its page."
)


def citations(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """What to cite, by method in the suite's order; empty where its class or its record does not say, or not well."""
    return _read(records)[0]


def refused_citations(records: Iterable[Record]) -> list[str]:
    """What methods ask to be cited with and does not go into a BibTeX file, a line each."""
    return _read(records)[1]


def _read(records: Iterable[Record]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    pruning = [record for record in records if record.cell.sparsity != DENSE]
    groups = group_by(pruning, lambda record: record.cell.method)
    known: dict[str, str] = {"prunebench": ""}  # the citation of each key
    found: dict[str, tuple[str, ...]] = {}
    refused = []
    for method in method_order(pruning):
        asked = dict.fromkeys(one for r in groups[method] if r.method is not None for one in r.method.cites)
        valid = []
        for citation in asked:
            try:
                keys = keys_of(citation)
                if taken := [key for key in keys if known.get(key, citation) != citation or keys.count(key) > 1]:
                    raise ValueError(f"the key {taken[0]} is that of another entry")
            except ValueError as error:
                refused.append(f"what {text.printable(method)} is cited with: {text.printable(error)}")
                continue
            known |= dict.fromkeys(keys, citation)
            valid.append(citation)
        found[method] = tuple(valid)
    return found, refused


def bibtex(records: Iterable[Record]) -> str:
    """The entries of all methods, each once, and of prunebench; comments name methods without one, and what is refused.

    Args:
        records: of any models and methods.
    """
    records = list(records)
    of_methods, refused = _read(records)
    users: dict[str, list[str]] = {}
    for method, cited in of_methods.items():
        for one in cited:
            users.setdefault(one, []).append(text.printable(method))
    asked = {record.cell.method for record in records if record.method is not None and record.method.cites}
    silent = [text.printable(method) for method, cited in of_methods.items() if not cited and method not in asked]
    parts = [HEADER, *(_entry(one, methods) for one, methods in users.items()), _own_entry(records)]
    if silent:
        parts.insert(1, f"% These do not say what they are cited with: {', '.join(silent)}.")
    parts[1:1] = [f"% Left out, {line}." for line in refused]
    return "\n\n".join(parts) + "\n"


def _entry(citation: str, methods: list[str]) -> str:
    used = f"% {', '.join(methods)}"
    if not ARXIV.fullmatch(citation):
        return f"{used}\n{citation.strip()}"
    fields = {
        "key": f"arXiv {citation}",
        "howpublished": f"arXiv preprint arXiv:{citation}",
        "eprint": citation,
        "archiveprefix": "arXiv",
        "url": f"https://arxiv.org/abs/{citation}",
        "year": f"20{citation[:2]}",
    }
    return f"{used}\n{_formatted('misc', keys_of(citation)[0], fields)}"


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
