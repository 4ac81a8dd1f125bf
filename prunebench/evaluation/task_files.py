"""lm-eval task files from elsewhere: what in them would run code, found by reading them; and their templates, confined.

A task file may name Python functions (``!function``), metrics whose code is fetched, or data kept as pickles, and its
templates can reach Python's internals. None of that is constructed here: a file is read as a tree of YAML nodes.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from prunebench.errors import TaskError, first_line, quoted
from prunebench.files import MEBIBYTE, read_regular_file
from prunebench.quiet import replaced

Found = tuple[int, str]
"""A line of a file, from 1, and what there would run code."""
STANDARD_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("binary", "bool", "float", "int", "map", "merge", "null", "omap", "pairs", "seq", "set", "str",
                 "timestamp", "value")
}  # fmt: skip
DEEPEST = 64  # levels of lists and maps in one another, as of a suite
PERMISSION = "runs only where the entry in the suite says trust_remote_code: true; read it before"


def refuse_code(name: str, index: Mapping[str, Any]) -> None:
    """Refuse a task or group whose files would run code.

    What lm-eval itself installs is as trusted as lm-eval.

    Args:
        name: of a task, group or tag.
        index: lm-eval's ``TaskManager.task_index``, which is made without constructing anything.

    Raises:
        TaskError: a file would run code, or cannot be read.
    """
    for path in _files_of(name, index, set()):
        for file, text in _with_includes(path, set()):
            try:
                found = next(_code_in(_nodes_of(text)), None)
            except (yaml.YAMLError, RecursionError, ValueError) as error:
                raise TaskError(f"task {name!r}: {file} is no YAML: {first_line(error)}") from error
            if found is not None:
                raise TaskError(f"task {name!r}: {file}, line {found[0]}: {found[1]}, which {PERMISSION}")


def check_files(include_path: str) -> None:
    """Refuse a folder in which lm-eval would open what is no file, as a pipe, which it reads without end.

    Args:
        include_path: folder of task files.

    Raises:
        TaskError: a task file, or one that it includes, is no regular file, or larger or deeper than one can be.
    """
    seen: set[Path] = set()
    for path in Path(include_path).rglob("*.yaml"):
        for file, text in _with_includes(path, seen):
            _refuse_deep(file, text)


def _refuse_deep(path: Path, text: bytes) -> None:
    """Refuse lists in one another that lm-eval could not read; it would say that the task is unknown."""
    depth, deepest = 0, 0
    try:
        for event in yaml.parse(text, Loader=_loader()):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            deepest = max(depth, deepest)
            if deepest > DEEPEST:
                break
    except yaml.YAMLError as error:  # of others lm-eval, or the check for code, says what is wrong
        deepest = DEEPEST + 1 if "nesting depth" in str(error) else deepest
    if deepest > DEEPEST:
        raise TaskError(f"the task file {path} has more than {DEEPEST} levels: write it with fewer")


def files_digest(include_path: str) -> str:
    """SHA-256 (hex) over the task files and code of a folder, and over the files elsewhere that they include.

    Args:
        include_path: folder of task files.
    """
    inside = sorted(p for p in Path(include_path).rglob("*") if p.suffix in (".yaml", ".py") and p.is_file())
    included = {file for path in inside if path.suffix == ".yaml" for file, _ in _with_includes(path, set())}
    included -= {path.resolve() for path in inside}
    digest = hashlib.sha256()
    for path in [*inside, *sorted(included, key=lambda file: (file.name, str(file)))]:
        digest.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


@contextmanager
def confined_templates(*, trusted: bool = False) -> Iterator[None]:
    """Let lm-eval render templates in Jinja's sandbox, which keeps them from Python's internals.

    Args:
        trusted: leave lm-eval as it is.

    Raises:
        TaskError: a template reached for what the sandbox does not give.
    """
    if trusted:
        yield
        return
    from lm_eval import utils

    own = utils.env
    sandbox = SandboxedEnvironment(undefined=own.undefined, keep_trailing_newline=own.keep_trailing_newline)
    sandbox.filters["regex_replace"] = _regex_replace
    with replaced(utils, env=sandbox):
        try:
            yield
        except SecurityError as error:
            raise TaskError(
                f"a template of a task is refused: {first_line(error)} Such a template {PERMISSION}"
            ) from error


def _regex_replace(string: str, pattern: str, repl: str, count: int = 0) -> str:
    """lm-eval's filter of that name, for texts only: a function as ``repl`` would be called outside of the sandbox."""
    if not isinstance(repl, str):
        raise SecurityError("regex_replace takes a text.")
    return re.sub(pattern, repl, string, count=count)


def _files_of(name: str, index: Mapping[str, Any], seen: set[str]) -> Iterator[Path]:
    """The files of a task and, of a group or tag, those of its members."""
    entry = index.get(name)
    if entry is None or name in seen:
        return
    seen.add(name)
    if entry.yaml_path is not None:
        yield Path(entry.yaml_path)
    for member in (*sorted(entry.tags if entry.kind.name == "TAG" else ()), *_members(entry.cfg)):
        yield from _files_of(member, index, seen)


def _members(config: Any) -> Iterator[str]:
    """The names that a group lists, at any depth."""
    listed = config.get("task") if isinstance(config, dict) else None
    for member in listed if isinstance(listed, list) else ():
        if isinstance(member, dict):
            yield from (name for key in ("task", "group") if isinstance(name := member.get(key), str))
            yield from _members(member)
        elif isinstance(member, str):
            yield member


def _with_includes(path: Path, seen: set[Path]) -> Iterator[tuple[Path, bytes]]:
    """A file and those that it includes, with what they hold; not those that lm-eval installs.

    Raises:
        TaskError: one is no regular file, or larger than a task file can be.
    """
    path = path.resolve()
    if path in seen or path.is_relative_to(_lm_eval_folder()):
        return
    seen.add(path)
    try:
        text = read_regular_file(path, MEBIBYTE)
    except FileNotFoundError:  # lm-eval passes over what includes it
        return
    except OSError as error:
        raise TaskError(f"the task file {path} cannot be read: {error.strerror}") from error
    yield path, text
    with suppress(yaml.YAMLError, RecursionError, ValueError):
        for node in _walk(_nodes_of(text)):
            for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
                if key.value == "include":
                    for entry in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                        if isinstance(entry, yaml.ScalarNode):
                            yield from _with_includes(path.parent / entry.value, seen)


def _nodes_of(text: bytes) -> yaml.Node | None:
    """A file's tree of nodes, read by the parser that lm-eval uses."""
    root: yaml.Node | None = yaml.compose(text, Loader=_loader())
    return root


def _loader() -> Any:
    return yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def _walk(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every node of a tree once, keys of mappings included."""
    pending, seen = [root] if root is not None else [], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            pending += [part for pair in node.value for part in pair]


@functools.cache
def _lm_eval_folder() -> Path:
    import lm_eval

    return Path(str(lm_eval.__file__)).resolve().parent


def _code_in(root: yaml.Node | None) -> Iterator[Found]:
    """What in a tree of nodes would run code, in no particular order."""
    for node in _walk(root):
        line = node.start_mark.line + 1
        if node.tag not in STANDARD_TAGS:
            named = node.value if isinstance(node, yaml.ScalarNode) else ""
            yield line, f"{quoted(f'{node.tag} {named}'.strip())} is code"
        elif isinstance(node, yaml.ScalarNode) and (reached := _reach_of(node.value)):
            yield line, f"its template reaches for {reached!r}"
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            check = KEYS.get(key.value) if isinstance(key, yaml.ScalarNode) else None
            if check and (reason := check(value)):
                yield value.start_mark.line + 1, reason


def _is_set(node: yaml.Node) -> bool:
    return str(node.value).lower() not in ("false", "no", "off", "0", "null", "~", "")


def _foreign_metric(node: yaml.Node) -> str | None:
    """A metric that lm-eval has not, whose code it would fetch."""
    from lm_eval.api import metrics, registry  # noqa: F401  (the one fills the other)

    if str(node.value) in registry.metric_registry:
        return None
    return f"the metric {quoted(node.value)} is none of lm-eval's, so its code would be fetched"


def _code_as_data(node: yaml.Node) -> str | None:
    is_code = node.value == "pandas" or str(node.value).endswith(".py")
    return f"the data set {quoted(node.value)} is code or pickles" if is_code else None


def _unseen_prompt(node: yaml.Node) -> str | None:
    is_bundled = str(node.value).startswith("qa-basic:")
    return (
        None
        if is_bundled or not _is_set(node)
        else f"use_prompt {quoted(node.value)} takes a template from outside of this file"
    )


KEYS: dict[str, Callable[[yaml.Node], str | None]] = {
    "dataset_path": _code_as_data,
    "hf_evaluate": lambda node: "hf_evaluate fetches the code of a metric" if _is_set(node) else None,
    "metric": _foreign_metric,
    "trust_remote_code": lambda node: "it trusts the code of a data set" if _is_set(node) else None,
    "unsafe_code": lambda node: "unsafe_code runs what the model writes" if _is_set(node) else None,
    "use_prompt": _unseen_prompt,
}
"""By key of a task file, what says why its value would run code, or None."""


def _reach_of(text: str) -> str | None:
    """What a template names that only Python's internals have, as ``__globals__``."""
    if "{{" not in text and "{%" not in text:
        return None
    try:
        tree = _PARSER.parse(text)
    except TemplateError:
        return None  # lm-eval will say so
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Filter)):
        if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            return node.attr
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            name = node.arg.value
            if isinstance(name, str) and name.startswith("__"):
                return name
        if isinstance(node, nodes.Filter) and node.name == "attr":
            return "attr"
    return None


_PARSER = SandboxedEnvironment()
