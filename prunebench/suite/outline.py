"""What a suite asks for at a glance, before anything large is imported to plan it."""

from collections.abc import Iterable

from prunebench.errors import SuiteError, suggest
from prunebench.suite.method_entries import MethodEntry
from prunebench.suite.schema import Suite
from prunebench.text import counted


def chosen_entries(entries: tuple[MethodEntry, ...], only: Iterable[str]) -> dict[int, MethodEntry]:
    """The method entries that are asked for, by their position.

    Args:
        entries: of the suite.
        only: labels or names; none means all.

    Raises:
        SuiteError: there is no entry of a name.
    """
    asked = list(only)
    names = [name for entry in entries for name in (entry.title, entry.name)]
    for name in asked:
        if name not in names:
            raise SuiteError(f"--only {name!r}: the suite has no such method: {suggest(name, set(names))}")
    return {n: entry for n, entry in enumerate(entries) if not asked or entry.title in asked or entry.name in asked}


def outline(suite: Suite, only: Iterable[str] = ()) -> str:
    """One line: "suite extreme: 2 models × 8 methods × 4 sparsities × 1 seed".

    How many cells these are, planning tells: some methods are not for all sparsities, or have nothing random.

    Raises:
        SuiteError: see ``chosen_entries``.
    """
    entries = chosen_entries(suite.methods, only).values()
    parts = (
        counted(len(suite.models), "model"),
        counted(len({entry.title for entry in entries}), "method"),
        counted(len({s for entry in entries for s in entry.sparsities or suite.sparsities}), "sparsity", "sparsities"),
        counted(len({seed for entry in entries for seed in entry.seeds or suite.seeds}), "seed"),
    )
    return f"suite {suite.name}: {' × '.join(parts)}"
