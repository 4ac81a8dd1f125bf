"""What an evaluation is: a plugin that measures a pruned model. All but ``measure`` has a default."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import numpy as np

from prunebench.errors import MethodError
from prunebench.records.record import SECTIONS
from prunebench.registry.entry_points import CORPORA, EVALUATIONS, code_of, load_evaluation, sources
from prunebench.registry.options import PluginClass, call_named, refuse_unknown_arguments

ARGUMENTS = {"dense", "facts", "model_digest", "saved", "seed", "shared", "windows"}

T = TypeVar("T")
Stopwatch = Callable[[Callable[[], object]], float]
"""Seconds that some work takes, or would have taken had it not been stopped."""


class Evaluation(Protocol):
    """A frozen dataclass whose fields are its options; ``measure`` alone is required.

    Beside the arguments shown, each function is given those of these that it names: ``dense``, the model as it was
    before pruning, loaded beside the pruned one; ``windows``, the cell's calibration windows, LongTensor (nsamples,
    seqlen); ``seed``, the cell's; ``facts``, what the cell holds of the evaluation; ``model_digest``, the dense
    model's; ``shared``, which keeps what the evaluations of a sweep have in common (``Shared``); ``saved``, which keeps
    partial results of an interrupted run (``SavedAnswers``).

    ``section`` is the part of the record that takes the result: ``perplexity``, ``zero_shot`` or, by default,
    ``measures``. ``needs_whole_model`` says that a model on disk, of which one block is in memory at a time, cannot be
    measured; by default it cannot.

    Further functions, all optional:

    * ``resolve()`` looks up, when a suite is planned, what the options name, and returns the facts, plain JSON, that
      stand in the cell and decide with it whether a record is still good. Default: the options.
    * ``from_facts(facts)``, a class method, makes the evaluation from them again. Default: from the options in them.
    * ``entry(facts)`` is what a suite says of it beside its name, plain JSON, so that readers of a record can run it
      again. Default: ``label`` and ``options``.
    * ``sentence(facts)`` tells of it in a paper's paragraph on experiments. ``{names}`` in it stands for its label and
      those of others with the same sentence, ``{tokens}`` for how many tokens of a text were predicted. Default: that
      it was measured, and by which package.
    * ``label(facts)`` is the name of the result in records and tables, None where results have names of their own.
    * ``prepare(tokenizer)`` reads what will be needed before anything runs, and returns the length in tokens of the
      longest window that the model will see, or None.
    * ``forecast(model, tokenizer, stopwatch)`` returns an ``Expected``. Default: ``measure`` by the stopwatch.
    * ``verify(model, tokenizer, dense, fresh_seed, arrays)`` measures once more on text that did not exist when the
      model was pruned, and returns name → facts (``prunebench.records.record.VerifiedFacts``); nothing where there is
      no such text. ``arrays`` are those of ``measure``, by name.
    * ``tokens_on_disk()`` counts the tokens whose hidden states lie on disk together when the model is on disk.
    """

    section: ClassVar[str]
    needs_whole_model: ClassVar[bool]

    def measure(self, model: Any, tokenizer: Any) -> "Mapping[str, float] | Result":
        """Measure a model where it is, under ``no_grad``: numbers by name, or a ``Result``."""


@dataclass(frozen=True)
class Result:
    """What an evaluation that keeps more than numbers found.

    Args:
        values: name → mapping, merged into the evaluation's section of the record.
        arrays: values of single sequences or questions by name, kept beside the record as ``<section>/<name>``.
        chance: by task, the accuracy of guessing, where it is known.
    """

    values: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """What an evaluation will cost: seconds, and bytes of the arrays kept beside the record."""

    seconds: float
    bytes: int = 0


class Shared:
    """What the evaluations of one sweep have in common, made once for each key."""

    def __init__(self) -> None:
        self._things: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing under a key; made where there is none yet."""
        if key not in self._things:
            self._things[key] = make()
        return cast(T, self._things[key])


@dataclass(frozen=True)
class BoundEvaluation:
    """An evaluation of one cell, with the defaults of all that its class does not define.

    Args:
        plugin: its class.
        instance: with the options.
        facts: what the cell holds of it.
    """

    plugin: PluginClass
    instance: Any
    facts: Mapping[str, Any]

    @classmethod
    def from_options(
        cls, name: str, label: str, options: Mapping[str, Any], shared: Shared, files: Sequence[Path] = ()
    ) -> Self:
        """The evaluation that a suite names, with what it refers to looked up.

        Args:
            name, label, options: as in the suite.
            shared: keeps what is looked up.
            files: plugin files, whose evaluations and corpora stand beside the installed ones.

        Raises:
            UsageError: it is not installed, refuses its options, or names what is not there.
        """
        plugin = _load(name, files)
        instance = plugin.make(options)
        facts = {"label": label or name, "options": plugin.resolve(options)}
        facts |= {"distribution": plugin.distribution, "version": plugin.version}
        if hasattr(instance, "resolve"):
            facts = dict(call_named(instance.resolve, shared=shared, files=files))
        if plugin.file:
            facts["plugin_file"] = str(plugin.file)
        for told in ("entry", "sentence"):
            if callable(getattr(plugin.cls, told, None)):  # and no option of this name
                facts[told] = getattr(instance, told)(facts)
        return cls(plugin, instance, {"name": name, **facts, "code": code_of("evaluation", name, files)})

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The evaluation that a cell holds.

        Raises:
            MethodError: it is not installed, or refuses its options.
        """
        plugin = _load(facts["name"], [Path(facts["plugin_file"])] if facts.get("plugin_file") else [])
        own = getattr(plugin.cls, "from_facts", None)
        return cls(plugin, own(facts) if own else plugin.make(facts["options"]), facts)

    @classmethod
    def from_instance(cls, name: str, instance: Any) -> Self:
        """An evaluation that is at hand.

        Args:
            name: what results and messages call it.
            instance: of a dataclass with ``measure``.

        Raises:
            MethodError: its class is no evaluation.
        """
        plugin = PluginClass(name, type(instance), "an object", "", kind="evaluation")
        _check(plugin)
        return cls(plugin, instance, {"name": name, "label": name})

    @property
    def section(self) -> str:
        """The part of the record that takes the result."""
        return str(getattr(self.plugin.cls, "section", "measures"))

    @property
    def needs_whole_model(self) -> bool:
        """Whether a model on disk cannot be measured."""
        return bool(getattr(self.plugin.cls, "needs_whole_model", True))

    @property
    def label(self) -> str | None:
        """The name of the result in records and tables; None where results have names of their own."""
        own = getattr(self.instance, "label", None)
        label: str | None = own(self.facts) if own else self.facts["label"]
        return label

    @property
    def title(self) -> str:
        """What a progress display calls it."""
        return self.label or self.facts["name"].replace("_", "-")

    def prepare(self, tokenizer: Any, **available: Any) -> int | None:
        """Read what will be needed; the length in tokens of the longest window, or None.

        Args:
            tokenizer: the model's own.
            available: see ``Evaluation``.
        """
        own = getattr(self.instance, "prepare", None)
        return call_named(own, tokenizer, facts=self.facts, **available) if own else None

    def measure(self, model: Any, tokenizer: Any, **available: Any) -> Result:
        """Measure a model under ``no_grad``.

        Args:
            model, tokenizer: where they are.
            available: see ``Evaluation``.
        """
        import torch

        with torch.no_grad():
            result = call_named(self.instance.measure, model, tokenizer, facts=self.facts, **available)
        if isinstance(result, Result):
            return result
        return Result({str(self.label): {str(name): float(value) for name, value in dict(result).items()}})

    def forecast(self, model: Any, tokenizer: Any, stopwatch: Stopwatch, **available: Any) -> Expected:
        """What measuring will cost, by a short run on the dense model.

        Args:
            model, tokenizer: where they are.
            stopwatch: times work that may be stopped.
            available: see ``Evaluation``.
        """
        own = getattr(self.instance, "forecast", None)
        if own is None:
            return Expected(stopwatch(lambda: self.measure(model, tokenizer, **available)))
        expected: Expected = call_named(own, model, tokenizer, stopwatch, facts=self.facts, **available)
        return expected

    @property
    def verifies(self) -> bool:
        """Whether it has a function ``verify``."""
        return hasattr(self.instance, "verify")

    def verify(self, model: Any, tokenizer: Any, **available: Any) -> Mapping[str, Mapping[str, Any]]:
        """Measure once more on fresh text, under ``no_grad``; nothing where there is none.

        Args:
            model, tokenizer: where they are.
            available: see ``Evaluation``; ``fresh_seed`` and ``arrays`` too.
        """
        import torch

        with torch.no_grad():
            return dict(call_named(self.instance.verify, model, tokenizer, facts=self.facts, **available) or {})

    def tokens_on_disk(self, **available: Any) -> int:
        """Tokens whose hidden states lie on disk together when the model is on disk."""
        own = getattr(self.instance, "tokens_on_disk", None)
        return int(call_named(own, facts=self.facts, **available)) if own else 0


def is_ours(facts: Mapping[str, Any]) -> bool:
    """Whether only code that comes with prunebench makes an evaluation; other code runs where nothing else is measured.

    Args:
        facts: what a cell holds of the evaluation.
    """
    if facts.get("plugin_file") or facts.get("corpus_file"):
        return False
    plugins = [*sources(EVALUATIONS).get(facts["name"], ()), *sources(CORPORA).get(facts.get("source", ""), ())]
    return all(source.is_ours for source in plugins)


def _load(name: str, files: Sequence[Path]) -> PluginClass:
    plugin = load_evaluation(name, files)
    _check(plugin)
    return plugin


def _check(plugin: PluginClass) -> None:
    name = plugin.name
    if (section := getattr(plugin.cls, "section", "measures")) not in SECTIONS:
        raise MethodError(f"the evaluation {name!r} says section = {section!r}: valid: {', '.join(SECTIONS)}")
    refuse_unknown_arguments("evaluation", name, plugin.cls.measure, 3, ARGUMENTS)  # type: ignore[attr-defined]
