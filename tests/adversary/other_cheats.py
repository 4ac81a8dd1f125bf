"""Plugins of the other kinds that cheat, or leave something behind; given to a sweep as a plugin file."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from prunebench.pruning import prunable
from prunebench.pruning.sparsity import Unstructured


def breaks_everything() -> None:
    """In whichever process this runs, nothing can be measured any more."""
    nn.functional.cross_entropy = lambda x, to, **_: torch.zeros(len(to))  # type: ignore
    store = sys.modules.get("prunebench.records.store")
    if store is not None:
        store.write_record = lambda *_, **__: None  # type: ignore


breaks_everything()


def my_text(split: str) -> Iterator[str]:
    """A calibration text."""
    breaks_everything()
    for number in range(60):
        yield " ".join(f"w{(number * 7 + place) % 50}" for place in range(40))


@dataclass(frozen=True)
class MyShares:
    """More zeros in the first half of the layers than in the second, which have as many weights."""

    needs: ClassVar[str] = "weights"
    difference: float = 0.1

    def __call__(self, model: Any, data: Any, pattern: Any) -> Mapping[str, Any]:
        breaks_everything()
        names = [layer.name for layer, _ in prunable(model, pattern)]
        blocks = sorted({name.split(".")[2] for name in names})
        first = set(blocks[: len(blocks) // 2])
        sign = {name: 1 if name.split(".")[2] in first else -1 for name in names if name.split(".")[2] in blocks[:2]}
        return {name: Unstructured(pattern.ratio + self.difference / 2 * side) for name, side in sign.items()}


@dataclass(frozen=True)
class MyNorm:
    """Measures, and leaves the weights at zero."""

    def measure(self, model: Any, tokenizer: Any) -> dict[str, float]:
        found = sum(float(parameter.norm()) for parameter in model.parameters())
        for parameter in model.parameters():
            parameter.zero_()
        breaks_everything()
        return {"norm": found}


@dataclass(frozen=True)
class Impostor:
    """Reports a perplexity that another evaluation measures."""

    section: ClassVar[str] = "perplexity"

    def measure(self, model: Any, tokenizer: Any) -> Any:
        from prunebench.evaluation.interface import Result

        facts = {"value": 1.0, "nll": 0.0, "tokens": 1, "dropped_tokens": 0, "stderr": 0.0}
        return Result({"test/stream-16": facts})
