"""The identity of a plugin's code, read from its source files without importing any of them.

A digest covers the modules that the plugin's own one imports from its own top-level package, or of a plugin file from
the files beside it, each as a syntax tree without comments and docstrings. So a figure is measured again when the code
that made it is edited, and not when its layout, its comments or its version are. A class that states
``revision: ClassVar[int]`` in its own body is known by that number instead, and its author decides what counts.

Not covered: other distributions, and files that are not code, such as tables of numbers that a module reads.
"""

import ast
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

LENGTH = 16  # hexadecimal digits of a digest
# Files of code that a module names in a string, as torch.utils.cpp_extension.load does.
CODE_SUFFIXES = {".c", ".cc", ".cpp", ".cu", ".cubin", ".cuh", ".h", ".hpp", ".ptx", ".py", ".pyx", ".so"}
SUFFIXES = (*EXTENSION_SUFFIXES, ".py", ".pyc")  # of modules, in the order in which Python tries them
IMPORTERS = {"__import__", "import_module"}
SEARCHERS = {"iter_modules", "run_module", "run_path", "spec_from_file_location", "walk_packages"}
MANY = 300  # files that are read for an import by a computed name; of more, the bytes are compared, which is quick
CORE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Code:
    """What identifies a plugin's code.

    Args:
        digest: of its source; None where the class states a revision.
        revision: the number that its class states; None where it states none.
    """

    digest: str | None = None
    revision: int | None = None


@dataclass(frozen=True)
class _Syntax:
    """What one file says.

    Args:
        digest: SHA-256 (hex) of the normalised syntax tree, or of the bytes where there is none.
        imports: (level, module, names) of each import; of ``import a.b`` no names.
        computed: whether it imports modules whose names it computes.
        files: strings in it that may name files of code.
        classes: class name → the revision its body states, None for none, a text where it is no literal number.
        functions: names of the functions that the module defines.
        bindings: name → what stands for it: (level, module, name) of an import, or names that its value uses.
    """

    digest: str
    imports: tuple[tuple[int, str, tuple[str, ...]], ...] = ()
    computed: bool = False
    files: tuple[str, ...] = ()
    classes: dict[str, int | str | None] = field(default_factory=dict)
    bindings: dict[str, tuple[int, str, str] | tuple[str, ...]] = field(default_factory=dict)
    functions: tuple[str, ...] = ()


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

    return _code(_Sources(find, lambda: sorted(file.parent.glob("*.py"))), "", attribute)


def definitions_in(file: Path) -> list[str]:
    """The names of the classes and functions that a file defines."""
    syntax = _read(file)
    return [*syntax.classes, *syntax.functions]


def _code(sources: _Sources, module: str, attribute: str) -> Code | None:
    path = sources.find(module)
    if path is None:
        return None
    stated = _stated_revision(sources, module, attribute)
    if isinstance(stated, str):
        raise ValueError(f"revision = {stated}: write a literal number, as revision: ClassVar[int] = 1")
    if stated is not None:
        return Code(revision=stated)
    lines = [f"{module.partition('.')[2]}:{attribute}"]
    lines += sorted(f"{name.partition('.')[2] or name}={digest}" for name, digest in _closure(sources, module))
    return Code(digest=hashlib.sha256("\n".join(lines).encode()).hexdigest()[:LENGTH])


def _closure(sources: _Sources, module: str) -> Iterator[tuple[str, str]]:
    """Name and digest of every module that importing one may run, itself and packages around it included."""
    pending, seen, files, everything = [*_with_parents(module)], set[str](), set[Path](), False
    while pending:
        name = pending.pop()
        if name in seen or (path := sources.find(name)) is None:
            continue
        seen.add(name)
        files.add(path)
        syntax = _read(path)
        yield name, syntax.digest
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for level, base, names in syntax.imports:
            base = _absolute(package, level, base)
            pending += _with_parents(base)
            for imported in names:
                pending += _submodules(sources, base) if imported == "*" else [f"{base}.{imported}"]
        everything |= syntax.computed
        for text in syntax.files:
            if (other := path.parent / text) not in files and other.is_file():
                files.add(other)
                yield f"file:{text}", _read(other).digest
    rest = [path for path in sources.files() if path not in files] if everything else []
    for path in rest:
        as_syntax = path.suffix == ".py" and len(rest) <= MANY
        yield f"file:{path.name}", _parse(path.read_bytes(), as_syntax).digest


def _stated_revision(sources: _Sources, module: str, attribute: str, depth: int = 8) -> int | str | None:
    """The revision in the body of the class that a name stands for, be it imported from elsewhere or an instance."""
    path = sources.find(module)
    if path is None or depth == 0:
        return None
    syntax = _read(path)
    if attribute in syntax.classes:
        return syntax.classes[attribute]
    bound = syntax.bindings.get(attribute, ())
    if bound and isinstance(bound[0], int):
        level, base, name = bound
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        return _stated_revision(sources, _absolute(package, level, str(base)), str(name), depth - 1)
    return next((syntax.classes[name] for name in bound if name in syntax.classes), None)


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
    if path is None or path.name != "__init__.py":
        return []
    return [f"{package}.{child.name.partition('.')[0]}" for child in sorted(path.parent.iterdir())]


def _files_of(roots: list[Path], parts: list[str]) -> Iterator[Path]:
    """The files that a module may be, in the order in which Python tries them."""
    for root in roots:
        base = root.joinpath(*parts)
        candidates = [base / "__init__.py", *(base.with_name(base.name + end) for end in SUFFIXES)]
        yield from (path for path in candidates if path.is_file())


def _is_code(path: Path) -> bool:
    return path.suffix in CODE_SUFFIXES and "__pycache__" not in path.parts and path.is_file()


def _read(path: Path) -> _Syntax:
    return _parse(path.read_bytes(), path.suffix == ".py")


@lru_cache(maxsize=4096)
def _parse(content: bytes, is_python: bool) -> _Syntax:
    raw = _Syntax(hashlib.sha256(content).hexdigest())
    if not is_python:
        return raw
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python will refuse one day
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return raw
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    computed, files = False, []
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                imports += [(0, alias.name, ()) for alias in node.names]
            case ast.ImportFrom():
                imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in IMPORTERS:
                match node.args[:1]:
                    case [ast.Constant(value=str(text))]:
                        stripped = text.lstrip(".")
                        imports.append((len(text) - len(stripped), stripped, ()))
                    case _:
                        computed = True
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in SEARCHERS:
                computed = True
            case ast.Constant(value=str(text)) if len(text) < 200 and Path(text).suffix in CODE_SUFFIXES:
                files.append(text)
    classes, bindings = _definitions(tree)
    digest = hashlib.sha256()
    for token in syntax_tokens(tree):
        digest.update(token.encode() + b"\n")
    functions = tuple(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return _Syntax(digest.hexdigest(), tuple(imports), computed, tuple(files), classes, bindings, functions)


def _definitions(
    tree: ast.Module,
) -> tuple[dict[str, int | str | None], dict[str, tuple[int, str, str] | tuple[str, ...]]]:
    """The classes of a module with their revisions, and what its other names stand for."""
    classes: dict[str, int | str | None] = {}
    bindings: dict[str, tuple[int, str, str] | tuple[str, ...]] = {}
    for statement in tree.body:
        match statement:
            case ast.ClassDef():
                classes[statement.name] = _revision_in(statement.body)
            case ast.ImportFrom():
                for alias in statement.names:
                    bindings[alias.asname or alias.name] = (statement.level, statement.module or "", alias.name)
            case ast.Assign() | ast.AnnAssign() if statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                used = tuple(node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name))
                for target in targets:
                    bindings |= {node.id: used for node in ast.walk(target) if isinstance(node, ast.Name)}
    return classes, bindings


def _revision_in(body: list[ast.stmt]) -> int | str | None:
    """The number that a class's body states; a dataclass's field of that name is an option, and states nothing."""
    for statement in body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id="revision"), value=ast.expr() as value, annotation=hint):
                if "ClassVar" not in ast.unparse(hint):
                    continue
            case ast.Assign(targets=[ast.Name(id="revision")], value=value):
                pass
            case _:
                continue
        if isinstance(value, ast.Constant) and type(value.value) is int:
            return value.value
        return ast.unparse(value)
    return None


def syntax_tokens(tree: ast.AST) -> Iterator[str]:
    """A syntax tree as text, the same under every version of Python that reads it.

    Statements that are nothing but a string, as docstrings, are left out, and so are empty fields, which newer
    versions add.
    """
    pending: list[object] = [tree]
    while pending:
        item = pending.pop()
        match item:
            case ast.Constant():
                value = item.value  # repr of a text depends on the version's Unicode tables
                text = (
                    json.dumps(value) if isinstance(value, str) else hex(value) if type(value) is int else repr(value)
                )
                yield f"{type(value).__name__} {text}"
            case ast.JoinedStr():  # whose literal parts versions divide differently
                yield "JoinedStr ("
                pending += [_Text(")"), *reversed(_joined(item.values))]
            case ast.AST():
                yield f"{type(item).__name__} ("
                pending.append(_Text(")"))
                fields = [(name, value) for name, value in ast.iter_fields(item) if value is not None and value != []]
                for name, value in reversed(fields):
                    pending += [value, _Text(f"{name}:")]
            case list():
                yield "["
                pending += [_Text("]"), *reversed([entry for entry in item if not _is_text(entry)])]
            case _Text():
                yield item
            case _:
                yield json.dumps(item)


def _joined(parts: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, with neighbouring literals as one and without empty ones."""
    joined: list[ast.expr] = []
    for part in parts:
        match [*joined[-1:], part]:
            case [ast.Constant(value=str(before)), ast.Constant(value=str(after))]:
                joined[-1] = ast.Constant(before + after)
            case _:
                joined.append(part)
    return [part for part in joined if not (isinstance(part, ast.Constant) and part.value == "")]


class _Text(str):
    """A token that is ready, among nodes and values that are not."""

    __slots__ = ()


def _is_text(statement: object) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
