"""Whether the revision that a class states can be believed: whether its name stands for what the statement says.

A stated revision is taken in place of a digest of the code, so whatever a name stands for besides would go unseen. It
is believed where the module binds the name once, at top level, by an undecorated class statement (``dataclass`` apart),
and uses the class in no way by which it could become another.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from prunebench.registry.code_syntax import tree_of

DECORATORS = {"dataclasses": "dataclass", "typing": "final"}  # module → what leaves a class the class that it is
NAMESPACES = {"globals", "locals", "vars", "exec", "eval", "__builtins__"}
WRITERS = {"__dict__", "__setattr__", "__delattr__", "__bases__", "__class__"}
LOOKERS = {"isinstance", "issubclass", "super"}
SETTERS = {"setattr", "delattr", "__setattr__", "__delattr__"}


@lru_cache(maxsize=1024)
def doubt(content: bytes, name: str) -> str | None:
    """Why what a module states of a name is not to be believed.

    Args:
        content: of the module's file, which is Python.
        name: bound in it: by a class statement, an import, or an assignment.

    Returns:
        One clause, as "line 12 binds Mine again"; None where nothing speaks against it.
    """
    tree = tree_of(content)
    parents: dict[ast.AST, ast.AST] = {}
    nodes: list[ast.AST] = [tree]
    for node in nodes:  # which grows
        for child in ast.iter_child_nodes(node):
            parents[child] = node
            nodes.append(child)
    bound = [node for node in nodes if name in _bound_by(node)]
    if again := bound[1:]:
        return f"line {max(_line(node) for node in again)} binds {name} again"
    for node in bound:
        if isinstance(node, ast.ClassDef) and (why := _doubt_of_statement(tree, nodes, node)):
            return why
    hints = {id(part) for hint in _hints(nodes) for part in ast.walk(hint)}
    for node in nodes:
        if why := _doubt_of_use(node, name, parents, hints):
            return f"line {_line(node)} {why}"
    return None


def _bound_by(node: ast.AST) -> list[str]:
    """The names that a node binds or deletes, in whatever scope."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.alias(name=name, asname=None):
            return [name.partition(".")[0]]
        case ast.alias(asname=str(name)):
            return [name]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
    return []


def _doubt_of_statement(tree: ast.Module, nodes: Sequence[ast.AST], statement: ast.ClassDef) -> str | None:
    """What a class statement itself says against it.

    Args:
        tree, nodes: of the module, and all of the tree's nodes.
        statement: it.
    """
    where = f"line {statement.lineno}"
    if statement not in tree.body:
        return f"{where} defines {statement.name} inside of another statement"
    if statement.keywords:
        return f"{where} gives the class {statement.name} keywords, as a metaclass"
    for decorator in statement.decorator_list:
        if not _leaves_the_class(tree, nodes, decorator):
            return f"line {decorator.lineno} decorates {statement.name}"
    stated = [node for node in _body(statement) if "revision" in _bound_by(node)]
    if len(stated) > 1:
        return f"line {_line(stated[-1])} states another revision"
    return None


def _body(statement: ast.ClassDef) -> Iterator[ast.AST]:
    """What a class's body runs, functions and classes in it left out."""
    pending: list[ast.AST] = [*statement.body]
    while pending:
        node = pending.pop(0)
        yield node
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _leaves_the_class(tree: ast.Module, nodes: Sequence[ast.AST], decorator: ast.expr) -> bool:
    """Whether a decorator is one of ``DECORATORS``, by an import of that name that nothing replaces."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    match function:
        case ast.Name(id=name):
            known = [
                alias
                for node in tree.body
                if isinstance(node, ast.ImportFrom) and not node.level
                for alias in node.names
                if DECORATORS.get(node.module or "") == name
            ]
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if DECORATORS.get(name) == attribute:
            known = [
                alias
                for node in tree.body
                if isinstance(node, ast.Import)
                for alias in node.names
                if alias.name == name
            ]
        case _:
            return False
    bound = [node for node in nodes if name in _bound_by(node)]
    return len(bound) == 1 and any(alias is bound[0] for alias in known)


def _hints(nodes: Iterable[ast.AST]) -> Iterator[ast.expr]:
    """Annotations, which name classes and do nothing with them."""
    for node in nodes:
        match node:
            case ast.arg(annotation=ast.expr() as hint) | ast.AnnAssign(annotation=hint):
                yield hint
            case ast.FunctionDef(returns=ast.expr() as hint) | ast.AsyncFunctionDef(returns=ast.expr() as hint):
                yield hint


def _doubt_of_use(node: ast.AST, name: str, parents: dict[ast.AST, ast.AST], hints: set[int]) -> str | None:
    """What a node does by which a name could come to stand for something else."""
    match node:
        case ast.alias(name="*"):
            return f"may bind {name} again"
        case ast.Name(id=used) if used in NAMESPACES:
            call = parents[node]
            if not (used == "vars" and isinstance(call, ast.Call) and call.args):  # vars(self) is an object's
                return f"uses {used}, which can bind {name} again"
        case ast.Attribute(value=ast.Name(id="sys"), attr="modules") | ast.Attribute(attr="f_globals" | "__globals__"):
            return f"uses {node.attr}, which can bind {name} again"
        case ast.Attribute(attr=attribute, ctx=ast.Store() | ast.Del()) if attribute == name:
            return f"binds {name} again"
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called in SETTERS and any(
            isinstance(argument, ast.Constant) and argument.value == name for argument in node.args
        ):
            return f"binds {name} again"
        case ast.Name(id=used, ctx=ast.Load()) if used == name and id(node) not in hints:
            return _doubt_of_load(node, parents)
    return None


def _doubt_of_load(node: ast.Name, parents: dict[ast.AST, ast.AST]) -> str | None:
    """What becomes of a class where it is named."""
    inner: ast.AST = node
    outer = parents[node]
    while isinstance(outer, ast.Attribute | ast.Subscript) and outer.value is inner:
        if isinstance(outer.ctx, ast.Store | ast.Del) or (isinstance(outer, ast.Attribute) and outer.attr in WRITERS):
            return f"assigns to attributes of {node.id}"
        inner, outer = outer, parents[outer]
    if inner is not node:
        return None
    match outer:
        case ast.Call(func=function) if function is node:
            return None
        case ast.Call(func=ast.Name(id=called)) if called in LOOKERS:
            return None
        case ast.ClassDef() | ast.Compare() | ast.MatchClass():
            return None
        case ast.Tuple() if isinstance(call := parents[outer], ast.Call) and isinstance(call.func, ast.Name):
            if call.func.id in LOOKERS:
                return None
    return f"passes {node.id} on, by which it could become another"


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)
