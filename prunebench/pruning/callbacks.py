"""Callbacks active while a method runs: an observer (progress, notes), a layer watcher, a checkpointer; all optional.

A method reports its progress (``track``) and its adjustments (``note``) without knowing who runs it. Where no observer
is active, both do nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")
MethodState = tuple[dict[str, Tensor], dict[str, Any]]
"""What a method saves in order to resume: tensors by name, and facts that JSON can hold."""


class Observer(Protocol):
    """What a runner implements to receive a method's progress, notes, traces and amounts."""

    def step(self, label: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` (None when unknown) steps of ``label`` are finished."""

    def note(self, what: str, where: dict[str, object]) -> None:
        """``what`` was adjusted, at ``where`` (a layer's name, say)."""

    def trace(self, step: int, values: dict[str, float]) -> None:
        """Named values at one step of an iterative method."""

    def account(self, amounts: dict[str, Any]) -> None:
        """Amounts that only the method can measure, by name."""


class Checkpointer(Protocol):
    """What a runner implements to let an interrupted method resume; ``prunebench.pruning.resume`` calls it."""

    def kept(self, name: str) -> MethodState | None:
        """The state saved under a name, or None; the runner's own notes and costs return to that moment too."""

    def due(self) -> bool:
        """Whether a state should be saved now."""

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Save a state under a name, in place of an earlier one."""

    def forget(self, name: str) -> None:
        """Remove what was saved under a name."""

    def begin_walk(self) -> int:
        """Count one more walk over the decoder blocks; returns its number, from 0."""


@dataclass(frozen=True)
class CallbackContext:
    """The callbacks that the functions of the toolkit call.

    Args:
        observer: receives progress, notes, traces and amounts.
        layer_watcher: called with (name, zeros, zeros asked for) of each layer that a method wrote to while it walks,
            as it was when the method asked ``calibrated`` for what comes after it.
        checkpointer: saves and returns the states from which an interrupted run resumes.
        replays: a context for what a run that resumes computes once more.
    """

    observer: Observer | None = None
    layer_watcher: Callable[[str, int, int], None] | None = None
    checkpointer: Checkpointer | None = None
    replays: Callable[[], AbstractContextManager[None]] = nullcontext


_context: ContextVar[CallbackContext] = ContextVar(
    "prunebench_callbacks",
    default=CallbackContext(),  # noqa: B039 - it is frozen
)


def active_callbacks() -> CallbackContext:
    """The callbacks that are active now."""
    return _context.get()


@contextmanager
def _with_callback(**callback: Any) -> Iterator[None]:
    token = _context.set(replace(_context.get(), **callback))
    try:
        yield
    finally:
        _context.reset(token)


@dataclass(frozen=True)
class _WithoutTrace:
    """An observer of what surrounds a method: all but its traces, which are not the method's.

    Args:
        observer: the method's own.
        traced: takes the traces.
    """

    observer: Observer
    traced: Callable[[int, dict[str, float]], None]

    def step(self, label: str, done: int, total: int | None) -> None:
        self.observer.step(label, done, total)

    def note(self, what: str, where: dict[str, object]) -> None:
        self.observer.note(what, where)

    def trace(self, step: int, values: dict[str, float]) -> None:
        self.traced(step, values)

    def account(self, amounts: dict[str, Any]) -> None:
        self.observer.account(amounts)


def divert_traces(traced: Callable[[int, dict[str, float]], None]) -> AbstractContextManager[None]:
    """Send traces to ``traced`` inside this context, and all else to the observer that is there."""
    observer = active_callbacks().observer
    return nullcontext() if observer is None else _with_callback(observer=_WithoutTrace(observer, traced))


def use_observer(observer: Observer) -> AbstractContextManager[None]:
    """Send progress, notes, traces and amounts to ``observer`` inside this context."""
    return _with_callback(observer=observer)


def use_layer_watcher(watcher: Callable[[str, int, int], None]) -> AbstractContextManager[None]:
    """Call ``watcher(name, zeros, zeros asked for)`` inside this context for each layer that a walk wrote to."""
    return _with_callback(layer_watcher=watcher)


def use_checkpointer(checkpointer: Checkpointer) -> AbstractContextManager[None]:
    """Save the states of methods with ``checkpointer`` inside this context."""
    return _with_callback(checkpointer=checkpointer)


def use_replays(replays: Callable[[], AbstractContextManager[None]]) -> AbstractContextManager[None]:
    """Enter ``replays()`` inside this context around what a run that resumes computes once more."""
    return _with_callback(replays=replays)


def replayed() -> AbstractContextManager[None]:
    """A context for what an interrupted run has computed, and counted, before."""
    return _context.get().replays()


def layer_finished(name: str, zeros: int, requested: int) -> None:
    """Tell the layer watcher, if one is active, of a layer that a method wrote to.

    Args:
        name: the layer's.
        zeros: in it when the method asked for the next one.
        requested: the zeros asked for.
    """
    watcher = active_callbacks().layer_watcher
    if watcher is not None:
        watcher(name, zeros, requested)


def track(iterable: Iterable[T], label: str, total: int | None = None, start: int = 0) -> Iterator[T]:
    """Iterate, reporting progress to the observer.

    Args:
        iterable: what to iterate over.
        label: what one step is: "block", "step", "batch".
        total: number of steps; by default ``start`` and the iterable's length where it has one.
        start: steps that were finished before the first of ``iterable``, in a run that resumes.
    """
    observer = active_callbacks().observer
    if observer is None:
        yield from iterable
        return
    if total is None and isinstance(iterable, Sized):
        total = start + len(iterable)
    observer.step(label, start, total)
    for done, item in enumerate(iterable, start=start + 1):
        yield item
        observer.step(label, done, total)


def note(what: str, **where: object) -> None:
    """Count an adjustment that a reader of the results should know of.

    Args:
        what: the adjustment in a few words, the same at each occurrence: the record counts by it.
        where: names of what was adjusted, such as a layer's; shown in the log, not counted.
    """
    observer = active_callbacks().observer
    if observer is not None:
        observer.note(what, where)


def trace(step: int, **values: float) -> None:
    """Report values of an iterative method at one step; the record holds a thinned curve of them.

    Args:
        step: the number of the step, from 0.
        values: loss, residuals, a learning rate: the same names at each call.
    """
    observer = active_callbacks().observer
    if observer is not None:
        observer.trace(step, values)


def account(**amounts: Any) -> None:
    """Put amounts that only the method, or the toolkit, knows into the record's cost.

    The last call for a name counts; of mappings, the last for each of their keys.

    Args:
        amounts: plain JSON. ``state_bytes``, the bytes of weights and optimiser state of the pruned matrices, measured
            from the tensors that exist; ``expert_tokens``, for each module of experts the calibration tokens that
            were routed to each; ``travel`` and ``layer_error``, which reports read for signs of failure.
    """
    observer = active_callbacks().observer
    if observer is not None:
        observer.account(amounts)
