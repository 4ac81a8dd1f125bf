"""The command line: a module for each command or group of commands, and what they share.

``app`` joins the commands into one program, ``suite_options`` has the arguments of the commands on a suite, ``output``
prints tables and JSON, ``progress`` displays a running sweep, ``signals`` ends the program in an orderly way. Commands
import what they need in their bodies, so that ``--help`` does not wait for torch or pydantic.
"""

from prunebench.cli.app import main

__all__ = ["main"]
