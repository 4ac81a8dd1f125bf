"""Who runs trials: this process, or a process of its own for each, which no check runs in.

``Apart`` starts a template (``prunebench.runner.processes``) from which each trial is forked, as the cells of a sweep
are; this module is also what says what those children do (``import_everything``, ``needs_everything``, ``run_stage``).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from pydantic import BaseModel

from prunebench.errors import MethodError, OutputError
from prunebench.registry.entry_points import installed, load_method, resolve_source
from prunebench.registry.method_class import MethodClass
from prunebench.registry.reading import Model, PluginFiles, checked
from prunebench.runner.processes.child import Died
from prunebench.runner.processes.parent import Template
from prunebench.runner.processes.teller import Teller, tell_answer
from prunebench.suite.reading import answer
from prunebench.testing.checking import reload_difference
from prunebench.testing.class_rules import class_violations
from prunebench.testing.memory import measure_peak
from prunebench.testing.models import MODELS
from prunebench.testing.said import Breach, Peak, Pruned, Strict
from prunebench.testing.trial import Trial, prune_in_turn, prune_interrupted


class ClassFacts(Strict):
    """What a method's class says of itself.

    Args:
        error: why it cannot be loaded, beside which nothing else is known.
        changes, patterns, mask, after: see ``MethodClass``.
        breaches: of the rules of the class itself.
    """

    error: str | None = None
    changes: str = "prunable"
    patterns: tuple[str, ...] = ()
    mask: str | None = None
    after: bool = False
    breaches: tuple[Breach, ...] = ()


class Trials(Protocol):
    """Runs the trials of one method with some options."""

    name: str
    distribution: str
    version: str

    def facts(self) -> ClassFacts:
        """What its class says, with the options checked.

        Raises:
            MethodError: the options are refused.
        """

    def prune(self, trials: Sequence[Trial], folder: Path, *, interrupted: bool = False) -> list[Pruned]:
        """Run trials in one process; see ``prunebench.testing.trial.prune_in_turn`` and ``prune_interrupted``."""

    def reload_difference(self, trial: Trial, folder: Path) -> str | None:
        """See ``prunebench.testing.checking.reload_difference``."""

    def peak(self, architecture: str, pattern: str) -> Peak:
        """See ``prunebench.testing.trial.measure_peak``."""


class Here:
    """``Trials`` in this process, of a method that was imported here: for debugging, and for a class at hand.

    Args:
        method: the method.
        options: its options.
    """

    def __init__(self, method: MethodClass, options: Mapping[str, Any]) -> None:
        self._method, self._options = method, options
        self.name, self.distribution, self.version = method.name, method.distribution, method.version

    def facts(self) -> ClassFacts:
        """See ``Trials``."""
        method = self._method
        breaches = tuple(
            Breach(rule=found.rule, measured=found.measured[:10_000]) for found in class_violations(method)
        )
        if not any(breach.rule == "options" for breach in breaches):
            method.resolve(self._options)
        said = {name: getattr(method, name) for name in ("changes", "patterns", "mask", "after")}
        return ClassFacts(**said, breaches=breaches)

    def prune(self, trials: Sequence[Trial], folder: Path, *, interrupted: bool = False) -> list[Pruned]:
        """See ``Trials``."""
        if interrupted:
            return prune_interrupted(self._method, self._options, trials[0], folder)
        return prune_in_turn(self._method, self._options, trials, folder)

    def reload_difference(self, trial: Trial, folder: Path) -> str | None:
        """See ``Trials``."""
        return reload_difference(trial, folder)

    def peak(self, architecture: str, pattern: str) -> Peak:
        """See ``Trials``."""
        return measure_peak(self._method, self._options, architecture, pattern)


class Processes:
    """The template from which the processes of ``Apart`` are forked; started when first used, ended as a context."""

    def __init__(self) -> None:
        self._template: Template | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End all processes."""
        template, self._template = self._template, None
        if template is not None:
            template.end()

    def read(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Have a process import a plugin; a ``prunebench.registry.reading.Reader``."""
        try:
            return self.ask("read", what=what, asked=arguments)
        except Died as death:
            raise MethodError(f"{arguments.get('name', what)!r} cannot be read: {death}") from None

    def ask(self, stage: str, **request: Any) -> dict[str, Any]:
        """The answer of a process that is thrown away.

        Raises:
            Died: it did.
            UsageError: it refuses.
        """
        if self._template is not None and not self._template.alive:
            self.end()
        self._template = self._template or Template.start(__name__)
        try:
            return self._template.ask({"stage": stage, **request}, lambda _: None)
        except KeyboardInterrupt:
            self.end()
            raise


class Apart:
    """``Trials`` in processes of their own: this one never imports the method.

    Args:
        name: the method's.
        options: its options.
        files: plugin files.
        processes: where they are forked from.

    Raises:
        UnknownMethodError: there is no such method.
        MethodError: two packages have it, or a plugin file cannot be imported.
    """

    def __init__(self, name: str, options: Mapping[str, Any], files: Sequence[Path], processes: Processes) -> None:
        self._processes = processes
        source = resolve_source("method", name, installed(PluginFiles(files, processes)))
        self._method = {"name": name, "files": [str(file.resolve()) for file in files], "options": dict(options)}
        self.name, self.distribution, self.version = name, source.distribution, source.version

    def facts(self) -> ClassFacts:
        """See ``Trials``."""
        try:
            return self._checked(ClassFacts, self._ask("facts"))
        except Died as death:
            return ClassFacts(error=f"{self.name!r} failed to import: {death}")

    def prune(self, trials: Sequence[Trial], folder: Path, *, interrupted: bool = False) -> list[Pruned]:
        """See ``Trials``."""
        request = {"trials": [trial.plain() for trial in trials], "folder": str(folder), "interrupted": interrupted}
        try:
            found = self._checked(_ManyPruned, self._ask("prune", **request)).trials
        except (Died, MethodError) as error:
            if interrupted:
                return []
            breach = Breach(rule="runs", measured=str(error)[:10_000])
            return [Pruned(returned=False, breaches=(breach,)) for _ in trials]
        if len(found) != len(trials) and not interrupted:
            raise MethodError(f"the process of {self.name!r} tells of {len(found)} trials where {len(trials)} ran")
        return list(found)

    def reload_difference(self, trial: Trial, folder: Path) -> str | None:
        """See ``Trials``; what a method saved is loaded by a process of its own, too."""
        try:
            found = self._processes.ask("reload", trial=trial.plain(), folder=str(folder))["difference"]
        except (Died, KeyError) as error:
            return f"the model cannot be saved and loaded: {error}"
        return None if found is None else str(found)[:10_000]

    def peak(self, architecture: str, pattern: str) -> Peak:
        """See ``Trials``."""
        try:
            return self._checked(Peak, self._ask("peak", architecture=architecture, pattern=pattern))
        except (Died, MethodError):  # reported under the rule "runs"
            return Peak(peak=None, ceiling=0)

    def _ask(self, stage: str, **request: Any) -> dict[str, Any]:
        return self._processes.ask(stage, method=self._method, **request)

    def _checked(self, model: type[Model], content: Any) -> Model:
        return checked(model, content, f"the method {self.name!r}")


class _ManyPruned(Strict):
    trials: tuple[Pruned, ...]


def import_everything() -> None:
    """Import what any trial needs; no thread pool is made, since none outlives a fork."""
    torch.set_num_threads(1)
    MODELS["llama"]()  # upon which transformers imports what all have in common


def needs_everything(request: dict[str, Any]) -> bool:
    """Whether a child needs more than to import a plugin."""
    return bool(request["stage"] != "read")


def prepare(request: dict[str, Any], resources: Any) -> None:
    """Nothing is read before."""


def run_stage(request: dict[str, Any], events: int, resources: Any) -> None:
    """Be the child: answer one question about a method, and end."""
    teller = Teller(events)
    torch.set_num_threads(1)
    tell_answer(lambda: _answer(request), teller)
    os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["stage"] == "reload":
        trial, folder = Trial.from_plain(request["trial"]), Path(request["folder"])
        return {"difference": reload_difference(trial, folder)}
    if request["stage"] == "read":
        return answer(request["what"], request["asked"])
    asked = request["method"]
    try:
        method = load_method(asked["name"], [Path(file) for file in asked["files"]])
    except MethodError as error:
        if request["stage"] != "facts":
            raise
        return ClassFacts(error=str(error)).model_dump()
    here = Here(method, asked["options"])
    found: BaseModel
    match request["stage"]:
        case "facts":
            found = here.facts()
        case "prune":
            trials = [Trial.from_plain(trial) for trial in request["trials"]]
            pruned = here.prune(trials, Path(request["folder"]), interrupted=request["interrupted"])
            found = _ManyPruned(trials=tuple(pruned))
        case "peak":
            found = here.peak(request["architecture"], request["pattern"])
        case stage:
            raise OutputError(f"there is no stage {stage!r}")
    return found.model_dump()
