"""Models larger than memory: their decoder blocks lie on disk and are loaded into memory one at a time.

Such a model has a ``BlockStore`` attached, and the parameters of a block are on the ``meta`` device except while the
block is *resident*, that is, in memory. Code that walks over the blocks asks for each to be resident; for an ordinary
model that does nothing, so that neither a method nor a statistic can tell one kind of model from the other.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

STORE_ATTRIBUTE = "_block_store"


class BlockStore(Protocol):
    """Where the decoder blocks of one model are stored.

    Args:
        scratch: a folder for what else does not fit in memory.
        write_back: whether a block is written when it is released, as it may have been changed; otherwise it is
            dropped, and what is stored stays valid.
        prefixes: of the names of each block's parameters, as "model.layers.0.".
    """

    scratch: Path
    write_back: bool
    prefixes: list[str]

    def fetch(self, index: int) -> None:
        """Load a block's parameters into memory, as new objects."""

    def release(self, index: int) -> None:
        """Remove a block's parameters from memory; references to them hold NaN from then on."""

    def save(self, folder: Path) -> None:
        """Move what was written to a folder on the same disk, as a checkpoint; no block can be fetched afterwards."""


def attach(model: nn.Module, store: BlockStore) -> None:
    """Attach a store, from which the model's blocks are loaded from now on."""
    setattr(model, STORE_ATTRIBUTE, store)


def store_of(model: nn.Module) -> BlockStore | None:
    """The store attached to a model; None for a model that is in memory."""
    store: BlockStore | None = getattr(model, STORE_ATTRIBUTE, None)
    return store


@contextmanager
def resident(model: nn.Module, index: int) -> Iterator[None]:
    """Have one decoder block in memory inside this context.

    The parameters of a block that was not in memory before are new objects: ask for its layers again.
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
    """Store the changes that are made to blocks inside this context: a block is written when it is released."""
    store = store_of(model)
    if store is None:
        yield
        return
    store.write_back = True
    try:
        yield
    finally:
        store.write_back = False


def resident_tensors(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, each in memory until the next one is asked for.

    Args:
        model: any.
        names: of parameters and buffers; grouped by block, as sorted names are, so that each block is read once.

    Yields:
        (name, tensor), in the order of ``names``.
    """
    store = store_of(model)
    prefixes = [] if store is None else store.prefixes

    def block_of(name: str) -> int | None:
        return next((index for index, prefix in enumerate(prefixes) if name.startswith(prefix)), None)

    for index, group in groupby(names, block_of):
        with nullcontext() if index is None else resident(model, index):
            for name in group:
                module, _, attribute = name.rpartition(".")
                yield name, getattr(model.get_submodule(module), attribute)
