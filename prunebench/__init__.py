"""prunebench: compares methods for making large language models sparse, on one footing.

Importing it brings neither torch nor any other large library; what needs them is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunebench.hookspecs import hookimpl

if TYPE_CHECKING:
    from prunebench.api.evaluating import evaluate
    from prunebench.api.pruning import prune
    from prunebench.api.sweeps import compare, plan, read_records, run
    from prunebench.models.sparse import load_sparse
    from prunebench.records.record import Record
    from prunebench.suite.schema import Suite

__all__ = [
    "Record",
    "Suite",
    "__version__",
    "compare",
    "evaluate",
    "hookimpl",
    "load_sparse",
    "plan",
    "prune",
    "read_records",
    "run",
]

_MODULES = {
    "Record": "records.record",
    "Suite": "suite.schema",
    "compare": "api.sweeps",
    "evaluate": "api.evaluating",
    "load_sparse": "models.sparse",
    "plan": "api.sweeps",
    "prune": "api.pruning",
    "read_records": "api.sweeps",
    "run": "api.sweeps",
}

__version__: str


def __getattr__(name: str) -> Any:
    """Import a name of ``__all__`` at its first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("prunebench")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
