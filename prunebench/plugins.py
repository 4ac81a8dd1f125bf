"""Methods as plugins: entry points → classes → instances; a fresh ``PluginManager`` for every cell."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
from pydantic import ConfigDict, TypeAdapter, ValidationError

from prunebench import hookspecs
from prunebench.errors import MethodError, nearest

GROUP = "prunebench"
WRAPPERS = "prunebench.wrappers"
CHANGES = ("prunable", "all", "nothing")


@dataclass(frozen=True)
class MethodClass:
    """An installed method.

    Args:
        name: the entry point's name.
        cls: the class it points to, a dataclass.
        distribution, version: the package that installed it.
    """

    name: str
    cls: type
    distribution: str
    version: str

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
        doc = (inspect.getdoc(self.cls) or "").partition("Args:\n")[2]
        found = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", doc, flags=re.MULTILINE)
        return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}

    @property
    def option_types(self) -> dict[str, str]:
        """Each option's type as it is written."""
        hints = typing.get_type_hints(self.cls)
        return {name: _type_name(hints[name]) for name in self.options}


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def installed() -> dict[str, EntryPoint]:
    """Entry points of all installed methods, by name; nothing is imported.

    Raises:
        MethodError: two packages register one name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.get(point.name)
        if other is not None and (other.value, _origin(other)) != (point.value, _origin(point)):
            raise MethodError(
                f"two packages register the method {point.name!r}: {_origin(other)[0]} and {_origin(point)[0]}; "
                "uninstall one of them"
            )
        found[point.name] = point
    return dict(sorted(found.items()))


def _origin(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")


def load_method(name: str) -> MethodClass:
    """Import one method and check that it can be one.

    Raises:
        MethodError: it is not installed, its import failed, or its class does not fit the specification.
    """
    points = installed()
    if name not in points:
        raise MethodError(f"unknown method {name!r}: {nearest(name, points)}")
    point = points[name]
    distribution, version = _origin(point)
    try:
        cls = point.load()
    except Exception as error:  # whatever a foreign module does at import
        raise MethodError(
            f"the method {name!r} of {distribution} {version} failed to import: {type(error).__name__}: {error}"
        ) from error
    _check_class(name, cls)
    return MethodClass(name, cls, distribution, version)


def _prune_of(cls: type) -> Any:
    return getattr(cls, "prune", None)


def _check_class(name: str, cls: object) -> None:
    """Refuse what pluggy would let through."""
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
        raise MethodError(f"the method {name!r} is {cls!r}: an entry point must name a dataclass")
    prune = _prune_of(cls)
    if prune is None or not hasattr(prune, f"{hookspecs.PROJECT}_impl"):
        raise MethodError(f"the method {name!r} has no function 'prune' marked with @prunebench.hookimpl")
    known = list(inspect.signature(hookspecs.prune).parameters)
    for parameter in list(inspect.signature(prune).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise MethodError(f"the method {name!r}: prune takes *{parameter.name}, which is never filled; remove it")
        if parameter.default is not parameter.empty:
            raise MethodError(
                f"the method {name!r}: the argument {parameter.name!r} of prune has a default, so a misspelt name "
                "would run unnoticed; remove the default (hyperparameters are fields of the class)"
            )
        if parameter.name not in known:
            raise MethodError(
                f"the method {name!r}: prune has the unknown argument {parameter.name!r}: "
                f"{nearest(parameter.name, known)}"
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
            raise MethodError(f"the method {method.name!r} has no option {name!r}: {nearest(name, method.options)}")
    hints = typing.get_type_hints(method.cls)
    checked = {}
    for name, value in options.items():
        try:
            checked[name] = _checked(hints[name], value)
        except ValidationError as error:
            raise MethodError(
                f"the option {name!r} of {method.name!r} is {value!r}: it must be of type {_type_name(hints[name])}"
                f" ({error.errors()[0]['msg'].lower()})"
            ) from None
    try:
        return method.cls(**checked)
    except (TypeError, ValueError) as error:
        raise MethodError(f"the method {method.name!r} refuses its options: {error}") from None


def _checked(hint: Any, value: Any) -> Any:
    """``value`` as a ``hint``, without the conversions that hide a mistake ("3" for 3, 1 for True)."""
    if isinstance(value, list) and typing.get_origin(hint) is tuple:
        value = tuple(value)
    return TypeAdapter(hint, config=ConfigDict(strict=True)).validate_python(value)


def plugin_manager(method: MethodClass, options: Mapping[str, Any]) -> pluggy.PluginManager:
    """A fresh manager that holds one method and every installed wrapper.

    Raises:
        MethodError: the options are refused, or there is not exactly one implementation of ``prune``.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(make_method(method, options), method.name)
    for point in entry_points(group=WRAPPERS):
        manager.register(point.load()(), f"wrapper {point.name}")
    implementations = [impl for impl in manager.hook.prune.get_hookimpls() if not (impl.wrapper or impl.hookwrapper)]
    if len(implementations) != 1:
        raise MethodError(f"{len(implementations)} implementations of prune are registered: exactly one must be")
    return manager


def describe(name: str) -> dict[str, Any]:
    """A method and its options, as plain JSON.

    Raises:
        MethodError: see ``load_method``.
    """
    method = load_method(name)
    docs, types = method.option_docs, method.option_types
    return {
        "name": method.name,
        "distribution": method.distribution,
        "version": method.version,
        "summary": method.summary,
        "changes": method.changes,
        "options": [
            {"name": option, "type": types[option], "default": default, "docs": docs.get(option, "")}
            for option, default in method.options.items()
        ],
    }


def describe_all() -> list[dict[str, Any]]:
    """Every installed method in a few words; one that cannot be loaded with its error in place of them."""
    described = []
    for name, point in installed().items():
        summary, failure = "", None
        try:
            summary = load_method(name).summary
        except MethodError as error:
            failure = str(error)
        distribution, version = _origin(point)
        described.append(
            {"name": name, "distribution": distribution, "version": version, "summary": summary, "error": failure}
        )
    return described
