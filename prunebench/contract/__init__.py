"""The contract of pruning methods: its rules, and the checks of each rule after a method has run.

``rules`` holds the rules with their advice, ``checks`` compares a model before and after pruning, ``live`` what else a
method may leave behind in its process, ``leaks`` what it keeps in itself. Names are resolved when they are first used,
so that the rules bring no torch.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.contract.checks import Snapshot, Watch, watched
    from prunebench.contract.rules import RULES, Rule, Violation

__all__ = ["RULES", "Rule", "Snapshot", "Violation", "Watch", "watched"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "checks": "Snapshot Watch watched",
        "rules": "RULES Rule Violation",
    },
)
