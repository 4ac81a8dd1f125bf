"""Plugin classes and their options: the fields of a dataclass, documented, typed, and checked where they are given."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from prunebench.errors import MethodError, UsageError, suggest


@dataclass(frozen=True)
class PluginClass:
    """A dataclass that a plugin names: a method, an evaluation or an allocation. Its fields are its options.

    Args:
        name: the entry point's name.
        cls: the class it points to.
        distribution, version: the package that installed it; of a plugin file its name and a digest.
        file: the plugin file it was read from; None for an installed one.
        kind: what messages call it.
        error: what a wrong option raises.
    """

    name: str
    cls: type
    distribution: str
    version: str
    file: Path | None = None
    kind: str = "method"
    error: type[UsageError] = MethodError

    @property
    def options(self) -> dict[str, Any]:
        """Each option's default; ``dataclasses.MISSING`` for one that must be given."""
        return {
            field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            for field in dataclasses.fields(self.cls)
            if field.init
        }

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    @property
    def option_docs(self) -> dict[str, str]:
        """Each option's entry under ``Args:`` of the docstring."""
        return argument_docs(self.cls)

    @property
    def option_types(self) -> dict[str, str]:
        """Each option's type as it is written."""
        return {name: _type_name(hint) for name, hint in self.hints().items()}

    def hints(self) -> dict[str, Any]:
        """The type of each option.

        Raises:
            UsageError: a type is named that is not there when the program runs.
        """
        try:
            hints = typing.get_type_hints(self.cls) if self.options else {}
        except (NameError, AttributeError, TypeError) as error:
            raise self.error(
                f"the {self.kind} {self.name!r} has a type that cannot be read: {error}; import it outside of "
                "TYPE_CHECKING, or use float, int, bool, str, Literal or a tuple of these"
            ) from None
        return {name: hints[name] for name in self.options}

    def value(self, option: str, value: Any) -> Any:
        """An option's value as its type.

        Raises:
            ValidationError: it is of another type.
            MethodError: the type is none that an option can have.
        """
        return as_type(self.hints()[option], value)

    def make(self, options: Mapping[str, Any]) -> Any:
        """An instance with the given options.

        Raises:
            UsageError: an option is unknown, of the wrong type, or refused by the class itself.
        """
        for name in options:
            if name not in self.options:
                raise self.error(f"the {self.kind} {self.name!r} has no option {name!r}: {suggest(name, self.options)}")
        hints = self.hints() if options else {}
        checked = {}
        for name, value in options.items():
            try:
                checked[name] = as_type(hints[name], value)
            except ValidationError as error:
                raise self.error(
                    f"the option {name!r} of {self.name!r} is {value!r}: it must be of type {_type_name(hints[name])}"
                    f" ({error.errors()[0]['msg'].lower()})"
                ) from None
        try:
            return self.cls(**checked)
        except (TypeError, ValueError) as error:
            raise self.error(f"the {self.kind} {self.name!r} refuses its options: {error}") from None

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options, defaults included, checked against their types.

        Raises:
            UsageError: see ``make``.
        """
        instance = self.make(options)
        return {name: getattr(instance, name) for name in self.options}


def argument_docs(cls: type) -> dict[str, str]:
    """What a class's docstring says under ``Args:``, by name."""
    doc = (inspect.getdoc(cls) or "").partition("Args:\n")[2]
    entries = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", doc, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def as_type(hint: Any, value: Any) -> Any:
    """``value`` as a ``hint``, without the conversions that hide a mistake ("3" for 3, 1 for True).

    Raises:
        ValidationError: it is of another type.
        MethodError: no value of a suite can be of that type.
    """
    if isinstance(value, list) and typing.get_origin(hint) is tuple:
        value = tuple(value)
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True))
    except PydanticUserError:
        raise MethodError(
            f"an option of type {_type_name(hint)} cannot be read from a suite: use float, int, bool, str, Literal or "
            "a tuple of these"
        ) from None
    return adapter.validate_python(value)


@dataclass(frozen=True)
class Deferred:
    """An argument that is made only for a function that names it.

    Args:
        make: makes it.
    """

    make: Callable[[], Any]


def call_named(function: Callable[..., Any], *positional: Any, **available: Any) -> Any:
    """Call a plugin's function with those of the available arguments that it names, as pluggy calls hooks.

    Args:
        function: what is called.
        positional: arguments that it always takes, first.
        available: arguments that it takes if it names them; a ``Deferred`` one is made then.
    """
    names = list(inspect.signature(function).parameters)[len(positional) :]
    given = {name: available[name] for name in names if name in available}
    made = {name: value.make() if isinstance(value, Deferred) else value for name, value in given.items()}
    return function(*positional, **made)


def refuse_unknown_arguments(kind: str, name: str, function: Callable[..., Any], skip: int, known: set[str]) -> None:
    """Refuse a plugin's function that names an argument which nobody fills.

    Args:
        kind, name: what a message calls the plugin.
        function: as the class holds it.
        skip: how many leading parameters it always gets, ``self`` included.
        known: the names that can be filled.

    Raises:
        MethodError: it names another one.
    """
    for parameter in list(inspect.signature(function).parameters.values())[skip:]:
        if parameter.name not in known and parameter.default is parameter.empty:
            raise MethodError(
                f"the {kind} {name!r}: {function.__name__} has the unknown argument {parameter.name!r}: "
                f"{suggest(parameter.name, known)}"
            )
