"""A suite from its file: read, changed by --set, checked, its paths counted from where it lies."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prunebench.data.text_files import is_text_file
from prunebench.errors import SuiteError, quoted
from prunebench.files import with_home
from prunebench.suite.entries import AllocationEntry, ModelEntry
from prunebench.suite.method_entries import MethodEntry
from prunebench.suite.schema import Suite
from prunebench.yaml12 import error_line, read_yaml, read_yaml_file


def load_suite(path: Path, overrides: Iterable[str] = (), plugin_files: Iterable[Path] = ()) -> Suite:
    """Read a suite file.

    Args:
        path: a YAML file. Relative paths in it count from where it lies.
        overrides: ``key=value`` with a dotted key (``calibration.nsamples=8``, ``methods.wanda.sparsities=[0.5]``) and
            a YAML value.
        plugin_files: Python files whose evaluations may be named beside the installed ones; ``PluginFiles`` also say
            who imports them.

    Raises:
        SuiteError: the file cannot be read, or does not describe a suite; one line that names the place.
    """
    try:
        content = read_yaml_file(path)
    except OSError as error:
        raise SuiteError(f"cannot read the suite {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{path} is no text file in UTF-8: give a YAML suite") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{path} is no valid YAML: {error_line(error)}") from None
    if not isinstance(content, dict):
        raise SuiteError(f"{path} is no suite: it must be a mapping with the keys {', '.join(Suite.model_fields)}")
    return suite_from(content, overrides, plugin_files, name=str(path), folder=path.resolve().parent)


def suite_from(
    content: Mapping[str, Any] | Suite,
    overrides: Iterable[str] = (),
    plugin_files: Iterable[Path] = (),
    *,
    name: str = "the suite",
    folder: Path,
) -> Suite:
    """Check what a file holds, or what a program made.

    Args:
        content: a mapping with the keys of a suite, or a suite.
        overrides, plugin_files: as in ``load_suite``.
        name: what a message calls it.
        folder: where relative paths count from.

    Raises:
        SuiteError: it does not describe a suite; one line that names the place.
    """
    plain = content.model_dump(mode="json") if isinstance(content, Suite) else copy.deepcopy(dict(content))
    for override in overrides:
        _override(plain, override)
    try:
        suite = Suite.model_validate(plain, context={"plugin_files": plugin_files})
    except ValidationError as error:
        raise SuiteError(f"{name}: {explain(error)}") from None
    return _with_absolute_paths(suite, folder)


def explain(error: ValidationError) -> str:
    """The first of pydantic's errors as one line, with the place among the keys."""
    first, *others = error.errors(include_url=False)
    location = ".".join(str(part)[:80] for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] not in ("missing", "value_error") and isinstance(first["input"], str | int | float):
        message += f", got {quoted(first['input'])}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{location}: {message}{more}" if location else f"{message}{more}"


def _override(content: dict[str, Any], override: str) -> None:
    """Apply one ``key=value`` to the file's content."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise SuiteError(f"--set {quoted(override)} is no key=value: write, say, calibration.nsamples=8")
    try:
        parsed = read_yaml(value)
    except yaml.YAMLError as error:
        raise SuiteError(f"--set {quoted(override)}: the value is no valid YAML: {error_line(error)}") from None
    target: Any = content
    parts: Sequence[str] = key.split(".")
    while True:
        place, parts = (parts[0], parts[1:]) if isinstance(target, dict) else _member(target, parts, override)
        if not parts:
            target[place] = parsed
            return
        target = target.setdefault(place, {}) if isinstance(target, dict) else target[place]


def _member(target: Any, parts: Sequence[str], override: str) -> tuple[int, Sequence[str]]:
    """The index of a list's member, by number, label, name or id, which may hold dots; and the parts that follow it."""
    for count in range(1, len(parts) + 1):
        part = ".".join(parts[:count])
        for index, item in enumerate(target if isinstance(target, list) else ()):
            named = [item.get(key) for key in ("label", "name", "id")] if isinstance(item, dict) else [item]
            if part == str(index) or part in named:
                return index, parts[count:]
    raise SuiteError(f"--set {quoted(override)}: there is no {parts[0]!r} at that place of the suite")


def _with_absolute_paths(suite: Suite, folder: Path) -> Suite:
    """Count relative paths from the suite file."""

    def located(text: str, is_path: bool) -> str:
        return str((folder / with_home(text)).resolve()) if is_path else text

    def corpus(text: str) -> str:
        return located(text, is_text_file(text))

    def entry(item: Any) -> Any:
        return item if item.corpus is None else item.model_copy(update={"corpus": corpus(item.corpus)})

    def place(text: str) -> str:
        is_path = text.startswith((".", "/", "~")) or (not text.startswith("builtin/") and (folder / text).is_dir())
        return located(text, is_path)

    def model(item: ModelEntry) -> ModelEntry:
        tokenizer = item.tokenizer and place(item.tokenizer)
        return item.model_copy(update={"id": place(item.id), "label": item.name, "tokenizer": tokenizer})

    def allocations(items: tuple[AllocationEntry, ...] | None) -> tuple[AllocationEntry, ...] | None:
        if items is None:
            return None
        return tuple(i.model_copy(update={"path": located(i.path, True)}) if i.path else i for i in items)

    def method(item: MethodEntry) -> MethodEntry:
        calibration = entry(item.calibration) if item.calibration else None
        tune = item.tune
        if tune is not None and tune.text is not None:
            tune = tune.model_copy(update={"text": tune.text.located(lambda text: located(text, True))})
        found = {"calibration": calibration, "allocation": allocations(item.allocation), "tune": tune}
        return item.model_copy(update=found)

    published = tuple(located(file, True) for file in suite.published_files)
    return suite.model_copy(
        update={
            "models": tuple(model(item) for item in suite.models),
            "calibration": entry(suite.calibration),
            "allocation": allocations(suite.allocation),
            "methods": tuple(method(item) for item in suite.methods),
            "evaluations": tuple(item.located(lambda text: located(text, True)) for item in suite.evaluations),
            "published": published[0] if isinstance(suite.published, str) else published or None,
        }
    )
