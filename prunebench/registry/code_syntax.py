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
CODE_SUFFIXES = {".c", ".cc", ".cpp", ".cu", ".cubin", ".cuh", ".h", ".hpp", ".ptx", ".py", ".pyx", ".so"}
SUFFIXES = (*EXTENSION_SUFFIXES, ".py", ".pyc")  # of modules, in the order in which Python tries them
IMPORTERS = {"__import__", "import_module"}
SEARCHERS = {
    "SourceFileLoader",
    "iter_modules",
    "resolve_name",
    "run_module",
    "run_path",
    "spec_from_file_location",
    "walk_packages",
}


@dataclass(frozen=True)
class Syntax:
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


def read_syntax(path: Path) -> Syntax:
    """What a file says."""
    return parse(path.read_bytes(), path.suffix == ".py")


@lru_cache(maxsize=4096)
def parse(content: bytes, is_python: bool) -> Syntax:
    """What the content of a file says; of one that is no Python, its digest alone."""
    raw = Syntax(hashlib.sha256(content).hexdigest())
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
                computed |= any(alias.name in IMPORTERS and alias.asname for alias in node.names)  # called by that
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
    return Syntax(digest.hexdigest(), tuple(imports), computed, tuple(files), classes, bindings, functions)


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
