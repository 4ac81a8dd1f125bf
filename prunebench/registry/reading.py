"""Reading plugins elsewhere: a process that plans or writes records has another import them, and tell what they say.

Where a reader is active (``use_reader``), whatever must be known of a plugin that does not come with prunebench is
asked of it: the names in a plugin file, what a method's class says of itself, how a corpus is called. Where none is,
plugins are imported here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from prunebench.errors import MethodError, first_line

Model = TypeVar("Model", bound=BaseModel)

OURS = "prunebench"  # the distribution whose plugins are imported anywhere


class Reader(Protocol):
    """Who imports plugins: ``prunebench.runner.isolated.Isolated``."""

    def read(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Plain JSON; see ``prunebench.suite.reading`` for what can be asked.

        Raises:
            UsageError: the plugin cannot be had, or refuses what it is given.
        """


_reader: ContextVar[Reader | None] = ContextVar("prunebench_reader", default=None)


@contextmanager
def use_reader(reader: Reader) -> Iterator[None]:
    """Have plugins of others read by ``reader`` inside this context."""
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


def checked(model: type[Model], content: Any, title: str) -> Model:
    """What was read, as a model: the process that read it ran code of others.

    Args:
        model: what it should be.
        content: what it is.
        title: of the plugin, in a message.

    Raises:
        MethodError: it is something else.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise MethodError(f"{title} says of itself what cannot be: {first_line(error)}") from None


def reader_of(distribution: str | None) -> Reader | None:
    """Who reads a plugin of a distribution; None where it is imported here.

    Args:
        distribution: that installed it; None for a plugin file.
    """
    return None if distribution == OURS else _reader.get()
