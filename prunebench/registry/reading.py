"""Reading plugins elsewhere: a process that plans or writes records has another import them, and tell what they say.

Plugin files are passed on together with whoever reads plugins (``PluginFiles``). Whatever must be known of a plugin
that does not come with prunebench is asked of that reader: the names in a plugin file, what a method's class says of
itself, how a corpus is called. Where there is none, plugins are imported here.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from pydantic import BaseModel, ValidationError

from prunebench.errors import MethodError, first_line

Model = TypeVar("Model", bound=BaseModel)
Found = TypeVar("Found")


class Reader(Protocol):
    """Who imports plugins: ``prunebench.runner.isolated.Isolated``."""

    def read(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Plain JSON; see ``prunebench.suite.reading`` for what can be asked.

        Raises:
            UsageError: the plugin cannot be had, or refuses what it is given.
        """


class PluginFiles(tuple[Path, ...]):
    """Plugin files, and who imports them and the installed plugins of others.

    Args:
        files: Python files.
        reader: imports plugins elsewhere; None imports them here.
    """

    reader: Reader | None
    _found: dict[str, Any]

    def __new__(cls, files: Iterable[Path] = (), reader: Reader | None = None) -> Self:
        """See the class."""
        made = super().__new__(cls, files)
        made.reader = reader
        made._found = {}
        return made

    def remembered(self, group: str, find: Callable[[], Found]) -> Found:
        """What was found of a group of plugins, looked for once."""
        if group not in self._found:
            self._found[group] = find()
        found: Found = self._found[group]
        return found

    def with_files(self, files: Iterable[Path]) -> "PluginFiles":
        """Other files, read by the same reader."""
        return PluginFiles(files, self.reader)


def reader_of(files: Iterable[Path]) -> Reader | None:
    """Who imports plugins of others; None where that is done here.

    Args:
        files: plugin files; only ``PluginFiles`` name a reader.
    """
    return files.reader if isinstance(files, PluginFiles) else None


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
