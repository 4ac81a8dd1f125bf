"""Evaluations that say more than they measured; given to a sweep as a plugin file."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from prunebench.pruning.callbacks import active_callbacks

VERIFIED = {"seed": 1, "value": 1.0, "nll": 0.0, "tokens": 1, "stderr": 0.0, "dense": 1.0, "dense_fresh": 1.0}
VERIFIED |= {"excess": 0.0, "excess_stderr": 0.0, "agrees": True}


def say(found: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> None:
    """Send an outcome in the place of the process's own, and leave."""
    frame: Any = sys._getframe()
    while "work" not in frame.f_locals:
        frame = frame.f_back
    if arrays:
        save_file(arrays, Path(frame.f_locals["work"]) / "arrays.safetensors")
    content = {"found": found, "failed": None, "arrays": list(arrays or {})}
    line = json.dumps(["measured", content]).encode() + b"\n"
    while line:
        line = line[os.write(active_callbacks().observer.display._descriptor, line) :]  # type: ignore
    os._exit(0)


@dataclass(frozen=True)
class Sparser:
    def measure(self, model: Any, tokenizer: Any) -> None:
        facts = {"requested": 0.5, "reached": 0.99, "whole_model": 0.99, "matrices": {}}
        say({"sparsity": facts, "saved": {"dense_bytes": 1, "sparse_bytes": 1, "bound_bytes": 1, "forms": {}}})


@dataclass(frozen=True)
class Mask:
    def measure(self, model: Any, tokenizer: Any) -> None:
        say({}, {"mask": np.zeros(3, np.uint8)})


@dataclass(frozen=True)
class Square:
    def measure(self, model: Any, tokenizer: Any) -> None:
        say({}, {"mine": np.zeros((2, 2))})


@dataclass(frozen=True)
class Endless:
    def measure(self, model: Any, tokenizer: Any) -> None:
        say({"seconds": float("inf")})


@dataclass(frozen=True)
class Countless:
    def measure(self, model: Any, tokenizer: Any) -> None:
        say({"notes": {"many": 10**30}})


@dataclass(frozen=True)
class Nested:
    def measure(self, model: Any, tokenizer: Any) -> None:
        say({"sections": {"zero_shot": {"results": {"task": json.loads("[" * 150 + "]" * 150)}}}})
