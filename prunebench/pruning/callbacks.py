"""Who is there while a method runs: one listens, one watches its layers, one keeps its state. Each may be missing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

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
