"""Measuring a model that the caller has loaded, by the evaluations of a suite."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunebench.api.arguments import (
    SEQLEN,
    check_files,
    check_model,
    check_seed,
    checked,
    context_of,
    described,
    eval_mode,
)
from prunebench.api.notebook import status_for
from prunebench.errors import CorpusError, UsageError
from prunebench.evaluation.interface import BoundEvaluation, Shared
from prunebench.pruning.callbacks import use_observer
from prunebench.quiet import quiet_hub_libraries
from prunebench.records.record import PerplexityFacts
from prunebench.registry.options import Deferred
from prunebench.registry.plugin_files import kebab
from prunebench.runner.events import EventRecorder
from prunebench.suite.evaluation_entries import EvaluationEntry, PerplexityEntry, PluginEntry, ZeroShotEntry

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Scores:
    """What ``evaluate`` found, as a record holds it.

    Args:
        perplexity: by protocol; ``scores.perplexity["wikitext2/stream-2048"].value``.
        zero_shot: lm-eval's own results, groups, versions, n-shot, n-samples and higher_is_better.
        measures: results of other evaluations: label → name → number.
        notes: what was adjusted, with counts.
        seconds: how long it took.
        arrays: losses of single sequences and correctness of single questions, as beside a record.
    """

    perplexity: Mapping[str, PerplexityFacts] = field(default_factory=dict)
    zero_shot: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        parts = [f"{protocol} {facts.value:.4f}" for protocol, facts in self.perplexity.items()]
        for task, entry in self.zero_shot.get("results", {}).items():
            parts += [
                f"{task} {key.partition(',')[0]} {value:.4f}"
                for key, value in entry.items()
                if isinstance(value, float) and "stderr" not in key
            ]
        for label, numbers in self.measures.items():
            parts += [f"{label} {name} {value:.4g}" for name, value in numbers.items()]
        return f"Scores({', '.join(parts)}; {self.seconds:.1f} s)"


def evaluate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    perplexity: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] = (),
    tasks: str | Sequence[str] = (),
    *,
    limit: int | float | None = None,
    num_fewshot: int | None = None,
    include_path: str | Path | None = None,
    batch_size: int = 32,
    evaluations: Any = (),
    dense: "PreTrainedModel | None" = None,
    windows: "Tensor | None" = None,
    seed: int = 0,
    plugins: Iterable[str | Path] = (),
    progress: bool | None = None,
) -> Scores:
    """Measure a loaded model; nothing about it is changed.

    The same numbers as in a suite's cell that names the same corpora, tasks and seed.

    Args:
        model: a causal language model of transformers, all of it on one device.
        tokenizer: its tokenizer.
        perplexity: corpora: each a name or path, or a mapping as in a suite, ``{"corpus": "c4", "windows":
            "document", "seqlen": 256}``. A name alone means windows of 2048 tokens, or of the model's context where
            that is shorter, from the joined documents.
        tasks: lm-eval's tasks or groups by name.
        limit, num_fewshot, include_path, batch_size: of the tasks, as in lm-eval.
        evaluations: other evaluations: each a name, a mapping ``{"name": ..., "label": ..., "options": ...}``, or an
            instance of a class of your own.
        dense: the model before pruning, for evaluations that compare with it.
        windows: calibration windows, LongTensor (nsamples, seqlen), for evaluations that look at them.
        seed: of what an evaluation draws, as lm-eval's worked examples.
        plugins: Python files whose plugins stand beside the installed ones.
        progress: whether to show progress; by default in notebooks and on terminals.

    Returns:
        The scores, by the names that a record has them under.

    Raises:
        UsageError: an argument is wrong, a text too short, or a task or its data not there.
    """
    check_model(model, tokenizer)
    shared = Shared()
    available = {"shared": shared, "model_digest": "", "seed": check_seed(seed), "saved": None}
    compared = {"dense": dense, "windows": windows}
    available |= {name: Deferred(partial(_given, name, value)) for name, value in compared.items()}
    files = check_files(plugins)
    folder = None if include_path is None else str(include_path)
    given = {"limit": limit, "num_fewshot": num_fewshot, "include_path": folder, "batch_size": batch_size}
    entries = [
        *(_perplexity_entry(entry, model) for entry in _several(perplexity, "perplexity")),
        *_task_entries(tasks, given),
        *(_plugin_entry(entry) for entry in _several(evaluations, "evaluations")),
    ]
    if not entries:
        raise UsageError("there is nothing to measure: pass perplexity=, tasks= or evaluations=")
    with quiet_hub_libraries(), status_for(progress) as display, eval_mode(model):
        bound = [_bound(entry, shared, files) for entry in entries]
        _check_lengths(bound, model, tokenizer, available)
        events = EventRecorder(display)
        sections: dict[str, dict[str, Any]] = {}
        arrays: dict[str, np.ndarray] = {}
        began = time.perf_counter()
        with use_observer(events):
            for evaluation in bound:
                display.phase(evaluation.title)
                result = evaluation.measure(model, tokenizer, **available)
                section = sections.setdefault(evaluation.section, {})
                for name, values in result.values.items():
                    section.setdefault(name, {}).update(values)
                arrays |= {f"{evaluation.section}/{name}": values for name, values in result.arrays.items()}
    return Scores(
        {name: PerplexityFacts(**facts) for name, facts in sections.get("perplexity", {}).items()},
        sections.get("zero_shot", {}),
        sections.get("measures", {}),
        dict(events.notes),
        time.perf_counter() - began,
        arrays,
    )


def _several(value: Any, what: str) -> Sequence[Any]:
    """One entry or several, as several."""
    if isinstance(value, str | Mapping | Path):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        return [value]
    if not isinstance(value, Sequence):
        raise UsageError(f"{what} is {described(value)}: give a name, a mapping as in a suite, or a list of these")
    return value


def _perplexity_entry(entry: Any, model: Any) -> Any:
    if isinstance(entry, str | Path):
        length = min(SEQLEN, context_of(model) or SEQLEN)
        entry = {"corpus": str(entry), "windows": "stream", "seqlen": length}
    if not isinstance(entry, Mapping):
        raise UsageError(
            f"perplexity holds {described(entry)}: give a corpus by name, or a mapping as in a suite, "
            "{'corpus': 'wikitext2', 'seqlen': 512}"
        )
    if named := [axis for axis in PerplexityEntry.axes if axis in entry]:
        raise UsageError(f"perplexity names {named[0]!r}, of which only a suite has several: leave it out")
    return checked(PerplexityEntry, "perplexity", {"name": "perplexity", **entry})


def _task_entries(tasks: Any, given: Mapping[str, Any]) -> list[EvaluationEntry]:
    names = [tasks] if isinstance(tasks, str) else tasks
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"tasks is {described(tasks)}: give names of lm-eval's tasks, as ['arc_easy', 'hellaswag']")
    return [checked(ZeroShotEntry, "tasks", {"name": "zero_shot", "tasks": names, **given})] if names else []


def _bound(entry: Any, shared: Shared, files: Sequence[Path]) -> BoundEvaluation:
    if isinstance(entry, EvaluationEntry):
        return BoundEvaluation.from_options(entry.name, entry.label, entry.given_options, shared, files)  # type: ignore[attr-defined]
    return BoundEvaluation.from_instance(kebab(type(entry).__name__), entry)


def _given(name: str, value: Any) -> Any:
    """What an evaluation asks for.

    Raises:
        UsageError: the caller has not given it.
    """
    if value is None:
        raise UsageError(f"an evaluation asks for {name!r}: pass {name}=")
    return value


def _plugin_entry(entry: Any) -> Any:
    content = {"name": entry} if isinstance(entry, str) else entry
    if is_dataclass(entry) and not isinstance(entry, type) and callable(getattr(entry, "measure", None)):
        return entry
    if not isinstance(content, Mapping):
        raise UsageError(
            f"evaluations holds {described(entry)}: give a name, a mapping with name and options, or an instance of a "
            "dataclass with measure(model, tokenizer)"
        )
    return checked(PluginEntry, "evaluations", content)


def _check_lengths(bound: Sequence[BoundEvaluation], model: Any, tokenizer: Any, available: Mapping[str, Any]) -> None:
    """Read every text and task, and refuse windows that the model's context does not hold."""
    context = context_of(model)
    for evaluation in bound:
        length = evaluation.prepare(tokenizer, **available)
        if context is not None and length is not None and length > context:
            raise CorpusError(
                f"{evaluation.title}: a window of {length} tokens is longer than the model's context, {context}: "
                f"set its seqlen to at most {context}"
            )
