"""prunebench: compares methods for making large language models sparse, on one footing."""

from prunebench.hookspecs import hookimpl

__all__ = ["hookimpl"]
