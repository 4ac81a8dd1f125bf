"""Models larger than memory: decoder blocks that lie on disk and come into memory one at a time.

Such a model carries a store, and its blocks' parameters are on the ``meta`` device but while a block is *resident*.
Whoever walks over blocks asks for each to be resident; for an ordinary model that asks for nothing, so that neither a
method nor a statistic can tell one from the other.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

ATTRIBUTE = "_block_store"


class BlockStore(Protocol):
    """Where the blocks of one model lie.

    Args:
        scratch: a folder for what else does not fit in memory.
        keeping: whether a block that goes is written, as what may have been changed; else what was read still holds.
        prefixes: of the names of each block's parameters, as "model.layers.0.".
    """

    scratch: Path
    keeping: bool
    prefixes: list[str]

    def fetch(self, index: int) -> None:
        """Put a block's parameters into memory, as new objects."""

    def release(self, index: int) -> None:
        """Take them out again; those that were handed out hold NaN from then on."""

    def save(self, folder: Path) -> None:
        """Move what was written to a folder on the same disk, as a checkpoint; no block can be asked for then."""


def attach(model: nn.Module, store: BlockStore) -> None:
    """Let a model's blocks come from ``store``."""
    setattr(model, ATTRIBUTE, store)


def store_of(model: nn.Module) -> BlockStore | None:
    """The store that a model's blocks come from; None for a model that is in memory."""
    store: BlockStore | None = getattr(model, ATTRIBUTE, None)
    return store


@contextmanager
def resident(model: nn.Module, index: int) -> Iterator[None]:
    """One decoder block in memory, for a while.

    A block that was not in memory before has other parameters inside: ask for its layers again.
    """
    store = store_of(model)
    if store is None:
        yield
        return
    store.fetch(index)
    try:
        yield
    finally:
        store.release(index)


@contextmanager
def written_back(model: nn.Module) -> Iterator[None]:
    """What is done to blocks in here stays: a block is written as it goes."""
    store = store_of(model)
    if store is None:
        yield
        return
    store.keeping = True
    try:
        yield
    finally:
        store.keeping = False


def in_memory(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, each in memory until the next is asked for.

    Args:
        model: any.
        names: of one block after another, lest blocks be read again and again; sorted ones are.
    """
    store = store_of(model)
    prefixes = [] if store is None else store.prefixes

    def block_of(name: str) -> int | None:
        return next((index for index, prefix in enumerate(prefixes) if name.startswith(prefix)), None)

    for index, row in groupby(names, block_of):
        with nullcontext() if index is None else resident(model, index):
            for name in row:
                owner, _, last = name.rpartition(".")
                yield name, getattr(model.get_submodule(owner), last)
