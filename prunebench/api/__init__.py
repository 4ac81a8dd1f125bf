"""What a notebook or a script calls: prune and measure a model that is loaded, run suites, read and compare records.

``prunebench`` offers all of it by name: ``import prunebench as pb; pb.prune(model, tokenizer, "wanda", 0.5, ...)``.
Names are resolved when they are first used, so that importing this package brings no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunebench.api.evaluating import Scores, evaluate
    from prunebench.api.pruning import Pruned, prune
    from prunebench.api.results import Figures, Results
    from prunebench.api.sweeps import compare, plan, read_records, run

__all__ = [
    "Figures",
    "Pruned",
    "Results",
    "Scores",
    "compare",
    "evaluate",
    "plan",
    "prune",
    "read_records",
    "run",
]

_MODULES = {
    "Figures": "results",
    "Pruned": "pruning",
    "Results": "results",
    "Scores": "evaluating",
    "compare": "sweeps",
    "evaluate": "evaluating",
    "plan": "sweeps",
    "prune": "pruning",
    "read_records": "sweeps",
    "run": "sweeps",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
