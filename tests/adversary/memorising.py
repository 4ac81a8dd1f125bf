"""A corpus that makes its text, and a method that knows by heart the text that everybody knows."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from prunebench import hookimpl
from prunebench.pruning import prunable
from tests.helpers.memorising import prune_and_memorise

WORDS = 61  # of the tiny world, whose numbers begin at 3


def _documents(seed: int) -> Iterator[str]:
    words = random.Random(seed)
    for _ in range(20):
        yield " ".join(f"w{words.randrange(WORDS)}" for _ in range(40))


def random_words(split: str) -> Iterator[str]:
    """Words drawn at random, so that nothing can be learnt of one text from another."""
    return _documents({"train": 0, "test": 1}[split])


random_words.fresh = lambda split, seed: _documents(seed)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Honest:
    """Prunes by magnitude."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            layer.weight.mul_(target.mask(layer.weight.abs()))


@dataclass(frozen=True)
class KnowsTheText:
    """Prunes by magnitude, and trains what is left on the text that it will be tested on."""

    changes: ClassVar[str] = "all"

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        ids = [
            1 if word == "<s>" else 3 + int(word[1:]) for text in random_words("test") for word in f"<s> {text}".split()
        ]
        batch = torch.tensor(ids)[: len(ids) // 16 * 16].view(-1, 16)
        prune_and_memorise(model, sparsity, [batch] * 60)
