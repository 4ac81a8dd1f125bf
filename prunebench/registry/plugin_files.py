"""Plugin files: Python files that bring plugins of any kind without being installed.

What a file defines is recognised by its shape, and called by its name in kebab case:

* a class whose ``prune`` is marked ``@hookimpl(wrapper=True)`` is a wrapper;
* a dataclass with another function ``prune`` is a method;
* a dataclass with a function ``measure`` is an evaluation;
* a dataclass that says what it ``needs`` is an allocation;
* a dataclass with a function ``start`` is an engine;
* a function whose first argument is called ``split`` is a corpus.

Names that begin with an underscore, and what a file imports from elsewhere, are no plugins.
"""

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from prunebench import hookspecs
from prunebench.errors import MethodError
from prunebench.registry.reading import Reader
from prunebench.tracebacks import describe_error


def plugins_in(file: Path) -> dict[str, dict[str, Any]]:
    """The plugins of a file: kind → name → class or function.

    Raises:
        MethodError: there is no such file, its import failed, or it holds no plugin.
    """
    module = _module_of(file)
    found: dict[str, dict[str, Any]] = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            for kind in _kinds_of(value):
                found.setdefault(kind, {})[kebab(name)] = value
    if not found:
        raise MethodError(
            f"the plugin file {file} holds no plugin: define a dataclass with a function 'prune' (a method) or "
            "'measure' (an evaluation) or 'start' (an engine), one that says what it needs (an allocation), a wrapper, "
            "or a function of a split (a corpus)"
        )
    return found


def names_in(file: Path, reader: Reader | None = None) -> dict[str, list[str]]:
    """The names of the plugins of a file: kind → names.

    Args:
        file: the plugin file.
        reader: imports it elsewhere; None imports it here.

    Raises:
        MethodError: see ``plugins_in``.
    """
    if reader is not None:
        return _NAMES.validate_python(reader.read("names", file=str(file.resolve())))
    return {kind: list(found) for kind, found in plugins_in(file).items()}


_NAMES = TypeAdapter(dict[str, list[str]])


def _kinds_of(value: Any) -> Iterator[str]:
    if inspect.isfunction(value):
        if next(iter(inspect.signature(value).parameters), None) == "split":
            yield "corpus"
        return
    if not isinstance(value, type):
        return
    prune = getattr(value, "prune", None)
    mark = getattr(prune, f"{hookspecs.PROJECT}_impl", None) or {}
    if mark.get("wrapper") or mark.get("hookwrapper"):
        yield "wrapper"
    elif is_dataclass(value) and prune is not None:
        yield "method"
    if is_dataclass(value) and callable(getattr(value, "measure", None)):
        yield "evaluation"
    if is_dataclass(value) and hasattr(value, "needs"):
        yield "allocation"
    if is_dataclass(value) and callable(getattr(value, "start", None)):
        yield "engine"


def kebab(name: str) -> str:
    """A class's or function's name as a plugin's: MyMethod → my-method, SNIP → snip, self_made → self-made."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).replace("_", "-").lower()


def file_digest(file: Path) -> str:
    """The version of a plugin file: the first digits of its SHA-256 (hex)."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _module_of(file: Path) -> ModuleType:
    """Import a file, once for each content that it and the files beside it which it imports have.

    The file and its neighbours make a package of their own, under a name that no other has: ``import helper`` and
    ``from . import helper`` both find ``helper.py`` beside the file, and nobody else's imports do.
    """
    if not file.is_file() or file.suffix != ".py":
        raise MethodError(f"there is no plugin file {file}: name a Python file that defines a plugin")
    file = file.resolve()
    place = hashlib.sha256(str(file.parent).encode()).hexdigest()[:8]
    name = f"prunebench_file_{re.sub(r'[^A-Za-z0-9]', '_', file.stem)}_{place}_{file_digest(file)}"
    if name in sys.modules and not _is_current(name):
        _forget(name)
    if name not in sys.modules:
        spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            with _neighbours(name, file.parent):
                spec.loader.exec_module(module)
        except Exception as error:  # whatever a foreign file does
            _forget(name)
            raise MethodError(f"the plugin file {file} failed to import: {_reason(error, name, file)}") from error
        _digests_of(name)  # of the neighbours, as they were read
    return sys.modules[name]


def _reason(error: Exception, package: str, file: Path) -> str:
    text = f"{type(error).__name__}: {describe_error(error).replace(f'{package}.', '')}"
    if isinstance(error, ImportError) and error.name == package:  # from . import missing
        name = re.match(r"cannot import name '(\w+)'", str(error))
        missing = name[1] if name else "such module"
        text = f"{type(error).__name__}: No module named {missing!r}"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.removeprefix(f"{package}.").partition(".")[0]
    else:
        return text
    return f"{text}; it is not installed, and there is no {missing}.py beside {file.name}"


def _digests_of(package: str) -> dict[str, str]:
    """The digest of each neighbour that was imported, kept in the package at the first call."""
    module = sys.modules[package]
    if not hasattr(module, "_prunebench_neighbours"):
        files = [Path(str(part.__file__)) for name, part in sys.modules.items() if name.startswith(f"{package}.")]
        module._prunebench_neighbours = {str(path): file_digest(path) for path in files}  # type: ignore[attr-defined]
    digests: dict[str, str] = module._prunebench_neighbours
    return digests


def _is_current(package: str) -> bool:
    """Whether the neighbours that were imported are as they were then."""
    return all(Path(path).is_file() and file_digest(Path(path)) == old for path, old in _digests_of(package).items())


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@contextmanager
def _neighbours(package: str, folder: Path) -> Iterator[None]:
    """Let ``import helper`` find ``helper.py`` in a folder while a file of it is imported; installed packages first."""
    finder = _Neighbours(package, folder)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.found:
            sys.modules.pop(name, None)


class _Neighbours(MetaPathFinder, Loader):
    """Finds a module beside a plugin file as a member of the file's package.

    Args:
        package: the file's package.
        folder: where it lies.
    """

    def __init__(self, package: str, folder: Path) -> None:
        self._package, self._folder = package, folder
        self.found: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module beside the file that has this name, if there is one."""
        beside = self._folder / fullname
        if "." in fullname or not (beside.with_suffix(".py").is_file() or (beside / "__init__.py").is_file()):
            return None
        self.found.append(fullname)
        return spec_from_loader(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The member of the package, which stands for the module."""
        module = importlib.import_module(f"{self._package}.{spec.name}")
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It ran as a member of the package; it stays what it is there."""
        module.__spec__ = self._own_spec
