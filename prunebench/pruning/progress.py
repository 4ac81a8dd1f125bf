"""Progress and notes, to whoever listens.

A method says where it is (``track``) and what it had to adjust (``note``) without knowing who runs it. Nobody has to
listen: then both do nothing.
"""

from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from prunebench.pruning.callbacks import audience

T = TypeVar("T")


def passed(layer: Any, target: Any) -> None:
    """Tell the watcher, if there is one, that a method has done with a layer."""
    watcher = audience().watcher
    if watcher is not None:
        watcher(layer, target)


def track(iterable: Iterable[T], label: str, total: int | None = None, start: int = 0) -> Iterator[T]:
    """Iterate, telling the listener how far it is.

    Args:
        iterable: what to iterate over.
        label: what one step is: "block", "step", "batch".
        total: number of steps; by default ``start`` and the iterable's length where it has one.
        start: steps that were done before the first of ``iterable``, in a run that goes on.
    """
    listener = audience().listener
    if listener is None:
        yield from iterable
        return
    if total is None and isinstance(iterable, Sized):
        total = start + len(iterable)
    listener.step(label, start, total)
    for done, item in enumerate(iterable, start=start + 1):
        yield item
        listener.step(label, done, total)


def note(what: str, **where: object) -> None:
    """Count an adjustment that a reader of the results should know of.

    Args:
        what: the adjustment in a few words, the same at each occurrence: the record counts by it.
        where: names of what it was done to; shown in the log, not counted.
    """
    listener = audience().listener
    if listener is not None:
        listener.note(what, where)


def trace(step: int, **values: float) -> None:
    """Show where an iterative method stands; the record keeps a thinned curve of it.

    Args:
        step: the step spoken of, from 0.
        values: loss, residuals, a learning rate: the same names at each call.
    """
    listener = audience().listener
    if listener is not None:
        listener.trace(step, values)


def account(**amounts: Any) -> None:
    """Put amounts that only the method, or the toolkit, knows into the record's cost; the last call for a name counts.

    Args:
        amounts: plain JSON. ``state_bytes``, the bytes of weights and optimiser state of the pruned matrices, measured
            from the tensors that exist; ``expert_tokens``, for each module of experts the calibration tokens that
            were routed to each.
    """
    listener = audience().listener
    if listener is not None:
        listener.account(amounts)
