"""The identity of a plugin's code, read from its source files without importing any of them.

A digest covers the modules that the plugin's own one imports from its own top-level package, or of a plugin file from
the files beside it, each as a syntax tree without comments and docstrings. So a figure is measured again when the code
that made it is edited, and not when its layout, its comments or its version are. A class that states
``revision: ClassVar[int]`` in its own body is known by that number instead, and its author decides what counts; but
not where its name may stand for something else than the statement of the class (``stated_revision``).

Not covered: other distributions, and files that are not code, such as tables of numbers that a module reads.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from prunebench.registry.code_syntax import CODE_SUFFIXES, SUFFIXES, digest_as_text, parse, read_syntax
from prunebench.registry.stated_revision import doubt

LENGTH = 16  # hexadecimal digits of a digest
MANY = 300  # files that are read for an import by a computed name; of more, the bytes are compared, which is quick
CORE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Code:
    """What identifies a plugin's code.

    Args:
        digest: of its source; None where the class states a revision.
        revision: the number that its class states; None where it states none.
        doubt: why a revision that its class states does not count; None where one does, or none is stated.
    """

    digest: str | None = None
    revision: int | None = None
    doubt: str | None = None


@dataclass(frozen=True)
class _Sources:
    """Where modules of one top-level package, or beside one plugin file, are looked for.

    Args:
        find: dotted name → its file; None for a module that is not one of these.
        files: all files of code there.
    """

    find: Callable[[str], Path | None]
    files: Callable[[], list[Path]]


def code_of_object(module: str, attribute: str) -> Code | None:
    """The identity of the code behind an entry point ``module:attribute``.

    Only the top-level package is looked up by Python's import system, which runs no code of it.

    Returns:
        The identity; None where no source can be found.

    Raises:
        ValueError: the class states a revision that is no literal number.
    """
    sources = _package_of(module)
    return None if sources is None else _code(sources, module, attribute)


def file_of_module(module: str) -> Path | None:
    """The file that a module would be imported from; no code of its package runs.

    Returns:
        None where it cannot be found.
    """
    sources = _package_of(module)
    return None if sources is None else sources.find(module)


def _package_of(module: str) -> "_Sources | None":
    """The top-level package of a module, which Python's import system looks up."""
    top = module.partition(".")[0]
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    roots = [Path(place) for place in spec.submodule_search_locations or ()]
    origin = Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None

    def find(name: str) -> Path | None:
        first, *rest = name.split(".")
        if first != top:
            return None
        return next(_files_of(roots, rest), None) if rest else origin

    def files() -> list[Path]:
        found = [path for root in roots for path in root.rglob("*") if _is_code(path)]
        return found or ([origin] if origin else [])

    return _Sources(find, files)


def code_of_file(file: Path, attribute: str) -> Code | None:
    """The identity of the code behind a class in a plugin file.

    Args:
        file: the plugin file; it may be renamed without becoming another.
        attribute: the class's name.

    Raises:
        ValueError: the class states a revision that is no literal number.
    """

    def find(name: str) -> Path | None:
        if not name:
            return file
        parts = name.split(".")
        return next(_files_of([file.parent], parts), None) if parts[0] not in (CORE, file.stem) else None

    return _code(_Sources(find, lambda: _beside(file)), "", attribute)


def _beside(file: Path) -> list[Path]:
    """The files of code beside a plugin file, and those of the packages there, which are folders of modules."""
    entries = sorted(file.parent.iterdir())
    packages = [entry for entry in entries if any((entry / f"__init__{end}").is_file() for end in SUFFIXES)]
    inner = (path for package in packages for path in sorted(package.rglob("*")))
    return [path for path in (*entries, *inner) if _is_code(path)]


def definitions_in(file: Path) -> list[str]:
    """The names of the classes and functions that a file defines."""
    syntax = read_syntax(file)
    return [*syntax.classes, *syntax.functions]


def _code(sources: _Sources, module: str, attribute: str) -> Code | None:
    path = sources.find(module)
    if path is None:
        return None
    stated, why = _stated_revision(sources, module, attribute)
    if isinstance(stated, str):
        raise ValueError(f"revision = {stated}: write a literal number, as revision: ClassVar[int] = 1")
    if stated is not None and why is None:
        return Code(revision=stated)
    lines = [f"{module.partition('.')[2]}:{attribute}"]
    lines += sorted(f"{name.partition('.')[2] or name}={digest}" for name, digest in _closure(sources, module))
    return Code(hashlib.sha256("\n".join(lines).encode()).hexdigest()[:LENGTH], doubt=why)


def _closure(sources: _Sources, module: str) -> Iterator[tuple[str, str]]:
    """Name and digest of every module that importing one may run, itself and packages around it included."""
    pending, seen, everything, reads = [*_with_parents(module)], set[str](), False, 0
    found: dict[Path, str] = {}
    while pending:
        name = pending.pop()
        if name in seen or (path := sources.find(name)) is None:
            continue
        seen.add(name)
        found[path] = name
        syntax = read_syntax(path)
        package = name if path.name.startswith("__init__.") else name.rpartition(".")[0]
        for level, base, names in syntax.imports:
            base = _absolute(package, level, base)
            pending += _with_parents(base)
            for imported in names:
                pending += _submodules(sources, base) if imported == "*" else [f"{base}.{imported}"]
        everything |= syntax.computed
        reads = max(reads, syntax.reads)
        for text in syntax.files:
            if (other := path.parent / text).is_file():
                found.setdefault(other, f"file:{text}")
    rest = [path for path in sources.files() if path not in found] if everything else []
    for path, name in found.items():
        yield name, digest_as_text(path.read_bytes(), reads) if reads else read_syntax(path).digest
    for path in rest:
        as_syntax = path.suffix == ".py" and len(rest) <= MANY and not reads
        yield f"file:{path.name}", parse(path.read_bytes(), as_syntax).digest


def _stated_revision(
    sources: _Sources, module: str, attribute: str, depth: int = 8
) -> tuple[int | str | None, str | None]:
    """The revision in the body of the class that a name stands for, be it imported from elsewhere or an instance.

    Returns:
        The revision, None where none is stated; and why it is not to be believed, None where it is.
    """
    path = sources.find(module)
    if path is None or depth == 0:
        return None, None
    syntax = read_syntax(path)
    names, stated, why = [attribute], syntax.classes.get(attribute), None
    bound = syntax.bindings.get(attribute, ())
    if attribute not in syntax.classes and bound and isinstance(bound[0], int):
        level, base, name = bound
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        stated, why = _stated_revision(sources, _absolute(package, level, str(base)), str(name), depth - 1)
    elif attribute not in syntax.classes and bound:
        names.append(str(bound[0]))
        stated = syntax.classes.get(names[1])
    if stated is None or why is not None:
        return stated, why
    doubts = (doubt(path.read_bytes(), name) for name in names)
    return stated, next((f"{why} ({path.name})" for why in doubts if why is not None), None)


def _with_parents(name: str) -> list[str]:
    """a.b.c as a, a.b and a.b.c."""
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _absolute(package: str, level: int, module: str) -> str:
    """The name that a relative import means inside a package."""
    if not level:
        return module
    parts = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*parts, *([module] if module else [])])


def _submodules(sources: _Sources, package: str) -> list[str]:
    """The modules right inside a package, which ``from package import *`` may import."""
    path = sources.find(package)
    if path is None or not path.name.startswith("__init__."):
        return []
    return [f"{package}.{child.name.partition('.')[0]}" for child in sorted(path.parent.iterdir())]


def _files_of(roots: list[Path], parts: list[str]) -> Iterator[Path]:
    """The files that a module may be, in the order in which Python tries them."""
    for root in roots:
        base = root.joinpath(*parts)
        candidates = [
            *(base / f"__init__{end}" for end in SUFFIXES),
            *(base.parent / (base.name + end) for end in SUFFIXES),
        ]
        yield from (path for path in candidates if path.is_file())


def _is_code(path: Path) -> bool:
    return path.suffix in CODE_SUFFIXES and "__pycache__" not in path.parts and path.is_file()
