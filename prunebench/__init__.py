"""prunebench: compares methods for making large language models sparse, on one footing.

Importing it brings neither torch nor any other large library; what needs them is imported when it is used.
"""

from typing import TYPE_CHECKING, Any

from prunebench.hookspecs import hookimpl

if TYPE_CHECKING:
    from prunebench.models.sparse import load_sparse

__all__ = ["__version__", "hookimpl", "load_sparse"]

__version__: str


def __getattr__(name: str) -> Any:
    if name == "load_sparse":
        from prunebench.models.sparse import load_sparse

        return load_sparse
    if name == "__version__":
        from importlib.metadata import version

        return version("prunebench")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
