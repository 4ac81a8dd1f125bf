"""prunebench: compares methods for making large language models sparse, on one footing."""

from prunebench.hookspecs import hookimpl
from prunebench.models.sparse import load_sparse

__all__ = ["hookimpl", "load_sparse"]
