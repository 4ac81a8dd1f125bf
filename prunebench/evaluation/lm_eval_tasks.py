"""The tasks of lm-eval by name, each read once."""

import functools
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jinja2.exceptions import SecurityError

from prunebench import hub
from prunebench.errors import TaskError, suggest
from prunebench.evaluation.lm_eval_output import silent
from prunebench.evaluation.task_files import check_files, confined_templates, files_digest, refuse_code
from prunebench.quiet import quiet_hub_libraries


class TaskLibrary:
    """Tasks by name, each read once.

    lm-eval takes 11 s to index the tasks it bundles, and a task's data set is built when the task is: one library,
    held by whoever measures several models, pays for either once. A name is looked for among the builtin tasks, then
    in ``include_path``, and only then among those that lm-eval bundles.
    """

    def __init__(self, builtin: Mapping[str, dict[str, Any]] | None = None) -> None:
        """Args: builtin: lm-eval configurations by task name; None for the embedded default's."""
        self._builtin = builtin
        self._managers: dict[tuple[str | None, bool], Any] = {}
        self._loaded: dict[Hashable, list[Any]] = {}

    def check(self, tasks: Iterable[str], include_path: str | None, *, trusted: bool = False) -> None:
        """Refuse names that nobody knows and task files with code, without building anything.

        Raises:
            TaskError: an unknown name, no such folder, or code that may not run.
        """
        for name in tasks:
            source = self._source(name, include_path)
            if not trusted and not isinstance(source, dict):
                refuse_code(name, source.task_index)

    def load(
        self,
        tasks: Iterable[str],
        include_path: str | None,
        num_fewshot: int | None,
        *,
        trusted: bool = False,
        gen_kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The tasks as ``lm_eval.evaluate`` takes them.

        Args:
            tasks: names of tasks, groups or tags.
            include_path: folder of task files.
            num_fewshot: worked examples, in place of a task's own number.
            trusted: whether code that task files bring may run.
            gen_kwargs: arguments of generation, which replace a task's own.

        Raises:
            TaskError: an unknown name, code that may not run, data that cannot be had, or one task asked for twice.
        """
        tasks = list(tasks)
        with silent(), confined_templates(trusted=trusted):
            asked = (include_path, num_fewshot, trusted, gen_kwargs)
            items = [item for name in tasks for item in self._items(name, *asked)]
            try:
                return self._manager(None, defaults=False).load(items)
            except ValueError as error:
                raise TaskError(f"tasks {', '.join(tasks)}: {error}") from error

    def _items(
        self,
        name: str,
        include_path: str | None,
        num_fewshot: int | None,
        trusted: bool,
        gen_kwargs: Mapping[str, Any] | None,
    ) -> list[Any]:
        """The task, the group, or a tag's tasks."""
        key = (name, include_path, num_fewshot, trusted, json.dumps(gen_kwargs and dict(gen_kwargs), sort_keys=True))
        if key not in self._loaded:
            self.check([name], include_path, trusted=trusted)
            source = self._source(name, include_path)
            builtin = isinstance(source, dict)
            load = functools.partial(
                (self._manager(None, defaults=False) if builtin else source).load, [source if builtin else name]
            )
            loaded = _offline_first(name, load)
            for task in loaded["tasks"].values():
                # As lm_eval.simple_evaluate does: a task's own 0 is not overridden.
                own = task.get_config("num_fewshot")
                if own is None or (num_fewshot is not None and own != 0):
                    task.set_config(key="num_fewshot", value=num_fewshot or 0)
                if gen_kwargs and task.get_config("output_type") == "generate_until":
                    task.set_config(key="generation_kwargs", value=dict(gen_kwargs), update=True)
            groups = loaded.get("groups", {})
            self._loaded[key] = [groups[name]] if name in groups else list(loaded["tasks"].values())
        return self._loaded[key]

    def _source(self, name: str, include_path: str | None) -> Any:
        """The builtin configuration of that name, or the manager that knows it."""
        builtin = self._builtin_configs()
        if name in builtin:
            return builtin[name]
        with quiet_hub_libraries():
            for defaults in (False, True):
                manager = self._manager(include_path, defaults=defaults)
                if _complete(manager, name):
                    return manager
        local = {*builtin, *self._manager(include_path, defaults=False).all_tasks}
        near = get_close_matches(name, [*local, *manager.all_tasks], n=3, cutoff=0.5)
        raise TaskError(
            f"unknown task {name!r}: {suggest(name, near or local)}; `lm-eval ls tasks` lists lm-eval's own"
        )

    def _builtin_configs(self) -> Mapping[str, dict[str, Any]]:
        if self._builtin is None:
            from prunebench.tinyworld.tasks import task_configs

            self._builtin = task_configs()
        return self._builtin

    def _manager(self, include_path: str | None, *, defaults: bool) -> Any:
        from lm_eval.tasks import TaskManager

        if include_path is not None and not Path(include_path).is_dir():
            raise TaskError(f"include_path {include_path} is not a folder: name one that holds lm-eval task files")
        key = (include_path, defaults)
        if key not in self._managers:
            if include_path is not None:
                check_files(include_path)
            self._managers[key] = TaskManager(include_path=include_path, include_defaults=defaults)
        return self._managers[key]


def check_tasks(tasks: Sequence[str], include_path: str | None, library: TaskLibrary, *, trusted: bool = False) -> None:
    """Refuse unknown task names, and task files with code, before anything runs.

    Args:
        tasks: names of tasks, groups or tags.
        include_path: folder of task files.
        library: where to look them up.
        trusted: whether code that task files bring may run.

    Raises:
        TaskError: an unknown name, no such folder, or code that may not run.
    """
    library.check(tasks, include_path, trusted=trusted)


# What lm-eval takes besides the arguments of transformers' generation.
OWN_ARGUMENTS = ("max_gen_toks", "max_tokens", "max_completion_tokens", "until")


def check_generation(gen_kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments of generation that nobody knows, which would fail when the model writes.

    Args:
        gen_kwargs: by name.

    Raises:
        TaskError: one is unknown.
    """
    if not gen_kwargs:
        return
    from transformers import GenerationConfig

    valid = (*OWN_ARGUMENTS, *(name for name in vars(GenerationConfig()) if not name.startswith("_")))
    for name in gen_kwargs:
        if name not in valid:
            near = get_close_matches(name, valid, n=3, cutoff=0.5)
            raise TaskError(f"gen_kwargs: unknown argument {name!r}: {suggest(name, near or OWN_ARGUMENTS)}")


def task_files_digest(include_path: str | None) -> str | None:
    """A digest of the task files themselves; the data they name is lm-eval's business.

    Args:
        include_path: folder of task files; None for none.
    """
    return None if include_path is None else files_digest(include_path)


def _complete(manager: Any, name: str) -> bool:
    """Whether a manager knows a name, and for a group the names in it."""
    entry = manager.task_index.get(name)
    if entry is None:
        return False
    members = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else None
    names = [member for member in members or [] if isinstance(member, str)]
    return all(_complete(manager, member) for member in names)


def _offline_first(name: str, load: Any) -> Any:
    """Build a task from local files and caches, and ask the hub only when that fails and it answers."""
    try:
        with hub.offline_mode():
            return load()
    except SecurityError:
        raise
    except Exception as missing:
        error, remedy = missing, "check its data, or connect to the hub if that has it"
        if hub.is_reachable():
            try:
                return load()
            except Exception as wrong:
                error, remedy = wrong, "check its file and its data"
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    raise TaskError(f"task {name!r} cannot be built: {reason}; {remedy}") from error
