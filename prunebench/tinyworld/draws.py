"""A seeded source of random choices that adds up their surprisal."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
Weighted = tuple[tuple[T, float], ...]

_MASK: Final = (1 << 64) - 1
_STRIDE: Final = 0x9E3779B97F4A7C15
_LOG: Final = (0.0, *(math.log(n) for n in range(1, 4096)))


def weighted(weights: Mapping[T, int]) -> Weighted[T]:
    """A table for ``Draws.weigh``: each option as often as its weight, with its surprisal in nats."""
    total = sum(weights.values())
    return tuple((option, math.log(total / weight)) for option, weight in weights.items() for _ in range(weight))


class Draws:
    """Random choices from SplitMix64, so that a seed gives the same on every platform and Python version.

    Args:
        seed: identifies a family of streams, such as one split of a corpus.
        index: number of a stream of the family, such as one story.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """

    __slots__ = ("_state", "nats")

    def __init__(self, seed: int, index: int = 0) -> None:
        self._state = seed & _MASK
        self._state = (self._word() ^ index) & _MASK
        self._state = self._word()
        self.nats = 0.0
        """Surprisal of all choices so far, −log of their joint probability."""

    def _word(self) -> int:
        self._state = z = (self._state + _STRIDE) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def pick(self, options: Sequence[T]) -> T:
        """Choose one of fewer than 4096 options, all equally likely."""
        n = len(options)
        self.nats += _LOG[n]
        return options[(self._word() * n) >> 64]

    def weigh(self, table: Weighted[T]) -> T:
        """Choose one option of a table made by ``weighted``."""
        option, nats = table[(self._word() * len(table)) >> 64]
        self.nats += nats
        return option

    def sample(self, options: Sequence[T], k: int) -> list[T]:
        """Choose ``k`` different options, in order."""
        remaining = list(options)
        chosen = []
        for _ in range(k):
            chosen.append(self.pick(remaining))
            remaining.remove(chosen[-1])
        return chosen
