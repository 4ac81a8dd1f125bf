"""Plugins: entry points and files, and the classes that they name."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import prunebench
from prunebench.errors import AllocationError, MethodError, UnknownMethodError, suggest
from prunebench.registry.code_digest import Code, code_of_file, code_of_object, definitions_in, file_of_module
from prunebench.registry.method_class import MethodClass, MethodDescription, check_class
from prunebench.registry.options import PluginClass, refuse_unknown_arguments
from prunebench.registry.plugin_files import file_digest, kebab, names_in, plugins_in
from prunebench.registry.reading import PluginFiles, Reader, checked, reader_of
from prunebench.tracebacks import describe_error

GROUP = "prunebench"
WRAPPERS = "prunebench.wrappers"
CORPORA = "prunebench.corpora"
EVALUATIONS = "prunebench.evaluations"
ALLOCATIONS = "prunebench.allocations"
ENGINES = "prunebench.engines"
KINDS = {
    "method": GROUP,
    "wrapper": WRAPPERS,
    "corpus": CORPORA,
    "evaluation": EVALUATIONS,
    "allocation": ALLOCATIONS,
    "engine": ENGINES,
}
RESTRICTION = "PRUNEBENCH_PLUGINS"
METHODS = "prunebench_plugins"  # the package of the methods that come with prunebench


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from.

    Args:
        name: what a suite calls it.
        distribution, version: the package that installed it; of a plugin file its name and a digest.
        point: the entry point; None for a plugin file.
        file: the plugin file; None for an entry point.
        kind: one of ``KINDS``.
    """

    name: str
    distribution: str
    version: str
    point: EntryPoint | None = None
    file: Path | None = None
    kind: str = "method"

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def is_ours(self) -> bool:
        """Whether it comes with prunebench: decided by where its code lies, for anybody may give a package any name."""
        return self.point is not None and lies_with_us(self.point.module)

    def reader(self, files: Iterable[Path]) -> Reader | None:
        """Who imports it, by the reader of ``files``; None where that is done here."""
        return None if self.is_ours else reader_of(files)

    @property
    def code(self) -> str:
        """What identifies its code: a digest of its source, or the revision that its class states; nothing is imported.

        Raises:
            MethodError: it states a revision that is no literal number.
        """
        found = self._identity
        if found is None:  # no source is to be had: then what is known of it is its version
            return str(self)
        return found.digest or f"{self.distribution} revision {found.revision}"

    @property
    def doubt(self) -> str | None:
        """Why the revision that its class states does not count; None where it does, or none is stated."""
        found = self._identity
        return None if found is None else found.doubt

    @cached_property
    def _identity(self) -> Code | None:
        try:
            if self.point:
                return code_of_object(self.point.module, self.point.attr)
            file = self.file or Path()
            names = [name for name in definitions_in(file) if kebab(name) == self.name]
            return code_of_file(file, names[0] if len(names) == 1 else "")  # of several, any may be the one that is had
        except ValueError as error:
            raise MethodError(f"{self.name!r} of {self} states {error}") from None

    def load(self) -> Any:
        """Import what it names.

        Raises:
            MethodError: the import failed, or brought what this process imported before its source was edited.
        """
        try:
            loaded = self.point.load() if self.point else plugins_in(self.file or Path())[self.kind][self.name]
        except MethodError:
            raise
        except Exception as error:  # whatever a foreign module does at import
            raise MethodError(
                f"{self.name!r} of {self} failed to import: {type(error).__name__}: {describe_error(error)}"
            ) from error
        code, key = self.code, f"__code_of_{getattr(loaded, '__qualname__', self.name)}__"
        module = sys.modules.get(str(getattr(loaded, "__module__", "")))
        if module is not None and vars(module).setdefault(key, code) != code:
            raise MethodError(
                f"the code of {self.name!r} was edited after this process imported it: start a new process"
            )
        return loaded


def sources(group: str, files: Iterable[Path] = ()) -> dict[str, list[Source]]:
    """Plugins of one group by name, those of ``files`` included; no package is imported.

    The environment variable ``PRUNEBENCH_PLUGINS`` restricts them to the packages it names, separated by commas.
    A name with several sources belongs to nobody: loading it is refused. Whoever plans a suite asks some hundred times
    with the same ``PluginFiles``, for which the installed packages are looked through once.
    """
    if isinstance(files, PluginFiles):
        return files.remembered(group, lambda: _sources(group, files))
    return _sources(group, files)


def _sources(group: str, files: Iterable[Path]) -> dict[str, list[Source]]:
    allowed = os.environ.get(RESTRICTION)
    names = None if allowed is None else {_plain(name) for name in allowed.split(",")}
    found: dict[str, list[Source]] = {}
    named: dict[int, tuple[str, str]] = {}  # a distribution's metadata are parsed whenever it is asked for its name
    for point in entry_points(group=group):
        if id(point.dist) not in named:
            named[id(point.dist)] = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
        distribution, version = named[id(point.dist)]
        known = [(source.point.value, source.distribution) for source in found.get(point.name, []) if source.point]
        if (names is None or _plain(distribution) in names) and (point.value, distribution) not in known:
            found.setdefault(point.name, []).append(Source(point.name, distribution, version, point))
    kind = next(kind for kind, known in KINDS.items() if known == group)
    for file in dict.fromkeys(files):
        for name in names_in(file, reader_of(files)).get(kind, ()):
            found.setdefault(name, []).append(Source(name, file.name, file_digest(file), file=file, kind=kind))
    return dict(sorted(found.items()))


def lies_with_us(module: str) -> bool:
    """Whether a module is of the package that runs, or of the methods beside it; nothing is imported.

    Args:
        module: its dotted name.
    """
    core = Path(prunebench.__file__).resolve().parent
    ours = core, core.parent / METHODS, core.parent / "plugins" / METHODS
    file = file_of_module(module) if module.partition(".")[0] in (core.name, METHODS) else None
    return file is not None and any(file.resolve().is_relative_to(place) for place in ours)


def _plain(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def installed(files: Iterable[Path] = ()) -> dict[str, list[Source]]:
    """Where each method comes from, by name; nothing but ``files`` is imported."""
    return sources(GROUP, files)


def resolve_source(kind: str, name: str, found: Mapping[str, list[Source]]) -> Source:
    """The source of one name.

    Raises:
        UnknownMethodError: nobody has it.
        MethodError: two packages have it.
    """
    if name not in found:
        limit = os.environ.get(RESTRICTION)
        why = "" if limit is None else f" ({RESTRICTION}={limit!r} restricts what is loaded)"
        raise UnknownMethodError(f"unknown {kind} {name!r}: {suggest(name, found)}{why}")
    one, *others = found[name]
    if others:
        raise MethodError(
            f"two packages register the {kind} {name!r}: {one.distribution} and {others[0].distribution}; "
            f"uninstall one of them, or name the packages to load in {RESTRICTION}"
        )
    return one


def code_of(kind: str, name: str, files: Iterable[Path] = ()) -> str:
    """What identifies the code of a plugin of one of ``KINDS``; see ``Source.code``.

    Raises:
        MethodError: nobody has it, or two packages have it.
    """
    return resolve_source(kind, name, sources(KINDS[kind], files)).code


def doubt_of(kind: str, name: str, files: Iterable[Path] = ()) -> str | None:
    """Why a revision that a plugin states does not count; see ``Source.doubt``.

    Raises:
        MethodError: nobody has it, or two packages have it.
    """
    return resolve_source(kind, name, sources(KINDS[kind], files)).doubt


def wrapper_codes(files: Iterable[Path] = ()) -> dict[str, str]:
    """What identifies the code of each wrapper, installed or of a plugin file, by its name."""
    return {name: " and ".join(source.code for source in found) for name, found in sources(WRAPPERS, files).items()}


def load_method(name: str, files: Iterable[Path] = ()) -> MethodClass:
    """Import one method and check that it can be one.

    Args:
        name: its entry point's name, or for a class in one of ``files`` the class's name in kebab case.
        files: plugin files, whose methods stand beside the installed ones.

    Raises:
        UnknownMethodError: there is none of that name.
        MethodError: two packages have it, its import failed, or its class does not fit the specification.
    """
    source = resolve_source("method", name, installed(files))
    cls = source.load()
    check_class(name, cls)
    return MethodClass(name, cls, source.distribution, source.version, source.file)


def describe_method(name: str, options: Mapping[str, Any], files: Iterable[Path] = ()) -> MethodDescription:
    """What planning has to know of a method, read by the reader of ``files``.

    Args:
        name, files: as in ``load_method``.
        options: as a suite gives them.

    Raises:
        UnknownMethodError, MethodError: see ``load_method``; or an option is refused.
    """
    source = resolve_source("method", name, installed(files))
    origin = {"name": name, "distribution": source.distribution, "version": source.version, "file": source.file}
    if reader := source.reader(files):
        found = reader.read("method", name=name, options=dict(options), files=[str(file) for file in files])
        return checked(MethodDescription, {**found, **origin}, f"the method {name!r}")
    method = load_method(name, files)
    return MethodDescription(
        **origin,
        changes=method.changes,
        takes_data=method.takes_data,
        patterns=method.patterns,
        mask=method.mask,
        after=method.after,
        control=method.control,
        brought=method.brought,
        cites=method.cites,
        options=method.resolve(options),
    )


def load_plugin(kind: str, name: str, files: Iterable[Path] = ()) -> Any:
    """What a plugin of one of ``KINDS`` names: a class or a function.

    Args:
        kind: one of ``KINDS``.
        name: the plugin's.
        files: plugin files, whose plugins stand beside the installed ones.

    Raises:
        MethodError: nobody has it, two packages have it, or its import failed.
    """
    return resolve_source(kind, name, sources(KINDS[kind], files)).load()


def load_evaluation(name: str, files: Iterable[Path] = ()) -> PluginClass:
    """An evaluation: a dataclass with options for fields and a function ``measure(model, tokenizer)``.

    Raises:
        MethodError: it cannot be loaded, or is no such class.
    """
    source = resolve_source("evaluation", name, sources(EVALUATIONS, files))
    cls = source.load()
    if not isinstance(cls, type) or not is_dataclass(cls) or not callable(getattr(cls, "measure", None)):
        raise MethodError(f"the evaluation {name!r} is {cls!r}: it must be a dataclass with measure(model, tokenizer)")
    return PluginClass(name, cls, source.distribution, source.version, source.file, kind="evaluation")


def allocation_source(name: str, files: Iterable[Path] = ()) -> Source:
    """Where an allocation comes from.

    Raises:
        AllocationError: nobody has it.
        MethodError: two packages have it.
    """
    known = sources(ALLOCATIONS, files)
    if name not in known:
        raise AllocationError(f"unknown allocation {name!r}: {suggest(name, known)}")
    return resolve_source("allocation", name, known)


def load_allocation(name: str, files: Iterable[Path] = ()) -> PluginClass:
    """An allocation: a dataclass with options for fields that is called with (model, data, pattern).

    Raises:
        AllocationError: nobody has it, or it is no such class.
        MethodError: two packages have it, or its import failed.
    """
    source = allocation_source(name, files)
    cls = source.load()
    if not isinstance(cls, type) or not is_dataclass(cls) or not hasattr(cls, "needs"):
        raise AllocationError(f"the allocation {name!r} is {cls!r}: it must be a dataclass that says what it needs")
    refuse_unknown_arguments("allocation", name, cls.__call__, 4, {"method"})
    return PluginClass(name, cls, source.distribution, source.version, source.file, "allocation", AllocationError)
