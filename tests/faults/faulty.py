"""Methods that take the process along; given to a sweep as a plugin file."""

import ctypes
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from prunebench import hookimpl
from prunebench.pruning import note, prunable, track


@dataclass(frozen=True)
class Exits:
    """Ends the process as a library in C may."""

    status: int = 3

    @hookimpl
    def prune(self) -> None:
        note("about to leave")
        sys.stderr.write("good\x1b[31mbye\n")
        sys.stderr.flush()
        os._exit(self.status)


@dataclass(frozen=True)
class Crashes:
    """Reads where nothing is."""

    @hookimpl
    def prune(self) -> None:
        for step in track(range(3), "step"):
            if step == 1:
                ctypes.string_at(0)


@dataclass(frozen=True)
class Hangs:
    """Sleeps in its second block."""

    @hookimpl
    def prune(self) -> None:
        for block in track(range(2), "block"):
            time.sleep(600 * block)


@dataclass(frozen=True)
class Eats:
    """Takes memory until there is none."""

    @hookimpl
    def prune(self) -> None:
        held = []
        while True:
            held.append(b"\1" * (128 << 20))


@dataclass(frozen=True)
class Slow:
    """Prunes by magnitude, and takes its time."""

    seconds: float = 1.0

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            layer.weight.mul_(target.mask(layer.weight.abs()))
        time.sleep(self.seconds)
