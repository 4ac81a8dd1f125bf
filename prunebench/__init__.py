"""prunebench: compares methods for making large language models sparse, on one footing.

Importing it brings neither torch nor any other large library; what needs them is imported when it is used.
"""

from typing import TYPE_CHECKING, Any

from prunebench.hookspecs import hookimpl
from prunebench.lazy import lazy_names

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

__version__: str

_get, _ = lazy_names(
    __name__,
    {
        "api.evaluating": "evaluate",
        "api.pruning": "prune",
        "api.sweeps": "compare plan read_records run",
        "models.sparse": "load_sparse",
        "records.record": "Record",
        "suite.schema": "Suite",
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("prunebench")
    return _get(name)


def __dir__() -> list[str]:
    return __all__
