"""What one source file says: its digest as a syntax tree, its imports, and the classes that it defines."""

import ast
import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# Files of code that a module names in a string, as torch.utils.cpp_extension.load does.
CODE_SUFFIXES = {".c", ".cc", ".cpp", ".cu", ".cubin", ".cuh", ".h", ".hpp", ".ptx", ".py", ".pyc", ".pyx", ".so"}
SUFFIXES = (*EXTENSION_SUFFIXES, ".py", ".pyc")  # of modules, in the order in which Python tries them
IMPORTERS = {"__import__", "import_module"}
SEARCHERS = {
    "SourcelessFileLoader",
    "SourceFileLoader",
    "iter_modules",
    "resolve_name",
    "run_module",
    "run_path",
    "spec_from_file_location",
    "walk_packages",
}
# What reads docstrings, and what reads source with its comments: where a module names it, they can change a figure.
DOCSTRING_READERS = {"__doc__", "getdoc", "inspect"}
SOURCE_READERS = {"findsource", "get_source", "getcomments", "getsource", "getsourcelines", "linecache", "tokenize"}


@dataclass(frozen=True)
class Syntax:
    """What one file says.

    Args:
        content: of the file.
        is_python: whether it has a syntax tree.
        imports: (level, module, names) of each import; of ``import a.b`` no names.
        computed: whether it imports modules whose names it computes.
        files: strings in it that may name files of code.
        classes: class name → the revision its body states, None for none, a text where it is no literal number.
        functions: names of the functions that the module defines.
        reads: what it may read of code as text: 0 nothing, 1 docstrings, 2 also comments and layout.
        bindings: name → what stands for it: (level, module, name) of an import, or the class whose instance it is.
    """

    content: bytes = field(repr=False)
    is_python: bool
    imports: tuple[tuple[int, str, tuple[str, ...]], ...] = ()
    computed: bool = False
    files: tuple[str, ...] = ()
    classes: dict[str, int | str | None] = field(default_factory=dict)
    bindings: dict[str, tuple[int, str, str] | tuple[str, ...]] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    reads: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the normalised syntax tree, or of the bytes where there is none."""
        return _digest(self.content, docstrings=False) if self.is_python else hashlib.sha256(self.content).hexdigest()


def read_syntax(path: Path) -> Syntax:
    """What a file says."""
    return parse(path.read_bytes(), path.suffix == ".py")


@lru_cache(maxsize=4096)
def parse(content: bytes, is_python: bool) -> Syntax:
    """What the content of a file says; of one that is no Python, its digest alone."""
    if not is_python:
        return Syntax(content, is_python=False)
    try:
        tree = tree_of(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Syntax(content, is_python=False)
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    computed, files, called, reads = False, [], set(), 0
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                imports += [(0, alias.name, ()) for alias in node.names]
            case ast.ImportFrom():
                imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
                computed |= any(alias.name in IMPORTERS and alias.asname for alias in node.names)  # called by that
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in IMPORTERS:
                called.add(node.func)
                match node.args[:1]:
                    case [ast.Constant(value=str(text))]:
                        stripped = text.lstrip(".")
                        imports.append((len(text) - len(stripped), stripped, ()))
                    case _:
                        computed = True
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in SEARCHERS:
                computed = True
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in IMPORTERS and node not in called:
                computed = True  # called by another name
            case ast.Name(id="exec" | "eval"):
                computed = True
            case ast.Constant(value=str(text)) if len(text) < 200 and Path(text).suffix in CODE_SUFFIXES:
                files.append(text)
        reads = max(reads, _reads(node))
    classes, bindings = _definitions(tree)
    functions = tuple(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return Syntax(content, True, tuple(imports), computed, tuple(files), classes, bindings, functions, reads)


@lru_cache(maxsize=8)
def tree_of(content: bytes) -> ast.Module:
    """The syntax tree of a Python file, not to be changed; few are kept, for they are large.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: there is none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python will refuse one day
        return ast.parse(content)


@lru_cache(maxsize=4096)
def _digest(content: bytes, *, docstrings: bool) -> str:
    """The digest of a Python file's syntax tree."""
    digest = hashlib.sha256()
    for token in syntax_tokens(tree_of(content), docstrings=docstrings):
        digest.update(token.encode() + b"\n")
    return digest.hexdigest()


def digest_as_text(content: bytes, reads: int) -> str:
    """The digest of a Python file some of whose text is read.

    Args:
        content: of the file.
        reads: as in ``Syntax``, 1 or 2.
    """
    try:
        if reads == 1:
            return _digest(content, docstrings=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return hashlib.sha256(content).hexdigest()


def _reads(node: ast.AST) -> int:
    """What a node may read of code as text; see ``Syntax``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) | ast.Constant(value=str(name)):
            return 2 if name in SOURCE_READERS else int(name in DOCSTRING_READERS)
    return 0


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
                made = _class_made(statement.value)
                used = () if made is None else (made,)
                for target in targets:
                    bindings |= {node.id: used for node in ast.walk(target) if isinstance(node, ast.Name)}
    return classes, bindings


def _class_made(value: ast.expr) -> str | None:
    """The class whose instance a value is, or holds; None where it may be anything else."""
    match value:
        case ast.Call(func=ast.Name(id=name)):
            return name
        case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
            return _class_made(element)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            made = {_class_made(element) for element in elements}
            return made.pop() if len(made) == 1 else None
    return None


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


def syntax_tokens(tree: ast.AST, *, docstrings: bool = False) -> Iterator[str]:
    """A syntax tree as text, the same under every version of Python that reads it.

    Empty fields, which newer versions add, are left out, and unless ``docstrings`` so are statements that are nothing
    but a string.
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
                pending += [_Text("]"), *reversed([entry for entry in item if docstrings or not _is_text(entry)])]
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
