"""What a method is to the core: a dataclass with one hook, whose fields are its options."""

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from prunebench import hookspecs
from prunebench.errors import MethodError, suggest
from prunebench.registry.options import _type_name, argument_docs, as_type

CHANGES = ("prunable", "all", "nothing")


@dataclass(frozen=True)
class MethodClass:
    """An installed method.

    Args:
        name: the entry point's name.
        cls: the class it points to, a dataclass.
        distribution, version: the package that installed it; of a plugin file its name and a digest.
        file: the plugin file it was read from; None for an installed one.
        kind: what messages call it; an evaluation's class is made from options in the same way.
    """

    name: str
    cls: type
    distribution: str
    version: str
    file: Path | None = None
    kind: str = "method"

    @property
    def changes(self) -> str:
        """What it may change: the prunable matrices, all parameters, or nothing."""
        return str(getattr(self.cls, "changes", "prunable"))

    @property
    def takes_data(self) -> bool:
        """Whether its hook names ``data``; without it there is nothing random, and one seed serves for all."""
        return "data" in inspect.signature(_prune_of(self.cls)).parameters

    @property
    def options(self) -> dict[str, Any]:
        """Each option's default."""
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
        return {name: _type_name(hint) for name, hint in _hints(self).items()}


def _hints(method: MethodClass) -> dict[str, Any]:
    """The type of each option.

    Raises:
        MethodError: a type is named that is not there when the program runs.
    """
    try:
        hints = typing.get_type_hints(method.cls) if method.options else {}
    except (NameError, AttributeError, TypeError) as error:
        raise MethodError(
            f"the {method.kind} {method.name!r} has a type that cannot be read: {error}; import it outside of "
            "TYPE_CHECKING, or use float, int, bool, str, Literal or a tuple of these"
        ) from None
    return {name: hints[name] for name in method.options}


def _prune_of(cls: type) -> Any:
    return getattr(cls, "prune", None)


def check_class(name: str, cls: object, *, kind: Literal["method", "wrapper"] = "method") -> None:
    """Refuse what pluggy would let through.

    Args:
        name: what a message calls it.
        cls: what an entry point names.
        kind: a wrapper need not be a dataclass, but its hook must be marked as one.

    Raises:
        MethodError: it cannot be a method (or a wrapper).
    """
    if not isinstance(cls, type) or (kind == "method" and not dataclasses.is_dataclass(cls)):
        raise MethodError(f"the {kind} {name!r} is {cls!r}: an entry point must name a dataclass")
    prune = _prune_of(cls)
    if prune is None or not hasattr(prune, f"{hookspecs.PROJECT}_impl"):
        raise MethodError(f"the {kind} {name!r} has no function 'prune' marked with @prunebench.hookimpl")
    if prune.prunebench_impl["wrapper"] != (kind == "wrapper"):
        mark = "@hookimpl(wrapper=True)" if kind == "wrapper" else "@hookimpl"
        raise MethodError(f"the {kind} {name!r} must mark its function 'prune' with {mark}")
    known = list(inspect.signature(hookspecs.prune).parameters)
    for parameter in list(inspect.signature(prune).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise MethodError(f"the {kind} {name!r}: prune takes *{parameter.name}, which is never filled; remove it")
        if parameter.default is not parameter.empty:
            raise MethodError(
                f"the {kind} {name!r}: the argument {parameter.name!r} of prune has a default, so a misspelt name "
                "would run unnoticed; remove the default (hyperparameters are fields of the class)"
            )
        if parameter.name not in known:
            raise MethodError(
                f"the {kind} {name!r}: prune has the unknown argument {parameter.name!r}: "
                f"{suggest(parameter.name, known)}"
            )
    if (changes := getattr(cls, "changes", "prunable")) not in CHANGES:
        raise MethodError(f"the method {name!r} says changes = {changes!r}: valid: {', '.join(CHANGES)}")


def resolve_options(method: MethodClass, options: Mapping[str, Any]) -> dict[str, Any]:
    """All of a method's options, defaults included, checked against their types.

    Raises:
        MethodError: an option is unknown, of the wrong type, or refused by the method itself.
    """
    return {name: getattr(make_method(method, options), name) for name in method.options}


def make_method(method: MethodClass, options: Mapping[str, Any]) -> Any:
    """An instance with the given options.

    Raises:
        MethodError: see ``resolve_options``.
    """
    for name in options:
        if name not in method.options:
            raise MethodError(
                f"the {method.kind} {method.name!r} has no option {name!r}: {suggest(name, method.options)}"
            )
    hints = _hints(method) if options else {}
    checked = {}
    for name, value in options.items():
        try:
            checked[name] = as_type(hints[name], value)
        except ValidationError as error:
            raise MethodError(
                f"the option {name!r} of {method.name!r} is {value!r}: it must be of type {_type_name(hints[name])}"
                f" ({error.errors()[0]['msg'].lower()})"
            ) from None
    try:
        return method.cls(**checked)
    except (TypeError, ValueError) as error:
        raise MethodError(f"the {method.kind} {method.name!r} refuses its options: {error}") from None


def check_value(method: MethodClass, name: str, value: Any) -> Any:
    """One option's value as its type.

    Raises:
        ValidationError: it is of another type.
        MethodError: the type is none that an option can have.
    """
    return as_type(_hints(method)[name], value)
