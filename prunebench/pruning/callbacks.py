"""Callbacks active while a method runs: an observer (progress, notes), a layer watcher, a checkpointer; all optional.

A method says where it is (``track``) and what it had to adjust (``note``) without knowing who runs it. Where nobody
listens, both do nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")
Kept = tuple[dict[str, Tensor], dict[str, Any]]


class Listener(Protocol):
    """What a runner implements to hear from a method."""

    def step(self, label: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None when unknown) steps of ``label`` are finished."""

    def note(self, what: str, where: dict[str, object]) -> None:
        """``what`` was adjusted, at ``where`` (a layer's name, say)."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Named values at one step of an iterative method."""

    def account(self, amounts: dict[str, Any]) -> None:
        """Amounts that only the method knows."""


class Keeper(Protocol):
    """What a runner implements to let methods go on where they were interrupted."""

    def kept(self, name: str) -> Kept | None:
        """See ``kept``; the runner's own account of notes and costs goes back to that moment too."""

    def due(self) -> bool:
        """See ``due``."""

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """See ``keep``."""

    def walk(self) -> int:
        """The number of the walk over the blocks that begins now, from 0."""


@dataclass(frozen=True)
class Audience:
    """Whom the functions of the toolkit speak to.

    Args:
        listener: hears of progress, notes, traces and amounts.
        watcher: called with (layer, target) when ``calibrated`` is asked for what comes after a layer.
        keeper: keeps what an interrupted run goes on from.
    """

    listener: Listener | None = None
    watcher: Callable[[Any, Any], None] | None = None
    keeper: Keeper | None = None


_audience: ContextVar[Audience] = ContextVar("prunebench_audience", default=Audience())  # noqa: B039 - it is frozen


def audience() -> Audience:
    """Who is there now."""
    return _audience.get()


@contextmanager
def _joined_by(**who: Any) -> Iterator[None]:
    token = _audience.set(replace(_audience.get(), **who))
    try:
        yield
    finally:
        _audience.reset(token)


def listening(listener: Listener) -> AbstractContextManager[None]:
    """Send what a method tells of itself inside this context to ``listener``."""
    return _joined_by(listener=listener)


def watching_layers(watcher: Callable[[Any, Any], None]) -> AbstractContextManager[None]:
    """Tell ``watcher`` inside this context of each layer that a method has done with."""
    return _joined_by(watcher=watcher)


def keeping(keeper: Keeper) -> AbstractContextManager[None]:
    """Hand what is kept inside this context to ``keeper``."""
    return _joined_by(keeper=keeper)


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
