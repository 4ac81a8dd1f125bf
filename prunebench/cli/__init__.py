"""The command line."""

from prunebench.cli.app import main

__all__ = ["main"]
