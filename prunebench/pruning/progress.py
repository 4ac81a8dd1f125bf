"""Progress and notes, to whoever listens.

A method says where it is (``track``) and what it had to adjust (``note``) without knowing who runs it. Nobody has to
listen: then both do nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


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


_listener: ContextVar[Listener | None] = ContextVar("prunebench_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send what ``track`` and ``note`` say inside this context to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


_watcher: ContextVar[Callable[[Any, Any], None] | None] = ContextVar("prunebench_watcher", default=None)


@contextmanager
def watching_layers(watcher: Callable[[Any, Any], None]) -> Iterator[None]:
    """Call ``watcher(layer, target)`` whenever ``calibrated`` is asked for what comes after a layer."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def passed(layer: Any, target: Any) -> None:
    """Tell the watcher, if there is one, that a method has done with a layer."""
    watcher = _watcher.get()
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
    listener = _listener.get()
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
    listener = _listener.get()
    if listener is not None:
        listener.note(what, where)


def trace(step: int, **values: float) -> None:
    """Show where an iterative method stands; the record keeps a thinned curve of it.

    Args:
        step: the step spoken of, from 0.
        values: loss, residuals, a learning rate: the same names at each call.
    """
    listener = _listener.get()
    if listener is not None:
        listener.trace(step, values)


def account(**amounts: Any) -> None:
    """Put amounts that only the method, or the toolkit, knows into the record's cost; the last call for a name counts.

    Args:
        amounts: plain JSON. ``state_bytes``, the bytes of weights and optimiser state of the pruned matrices, measured
            from the tensors that exist; ``expert_tokens``, for each module of experts the calibration tokens that
            were routed to each.
    """
    listener = _listener.get()
    if listener is not None:
        listener.account(amounts)
