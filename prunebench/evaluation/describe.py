"""What planning has to know of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from prunebench.evaluation.interface import BoundEvaluation, Shared
from prunebench.registry.entry_points import EVALUATIONS, resolve_source, sources
from prunebench.registry.reading import checked


class EvaluationDescription(BaseModel):
    """What planning has to know of an evaluation.

    Args:
        facts: what a cell holds of it.
        label: the name of its result; None where results have names of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    facts: dict[str, Any]
    label: str | None


def describe_evaluation(
    name: str, label: str, options: Mapping[str, Any], shared: Shared, files: Sequence[Path] = ()
) -> EvaluationDescription:
    """An evaluation as a suite names it, read by the reader of ``files``; see ``BoundEvaluation.from_options``.

    Raises:
        UsageError: it is not installed, refuses its options, or names what is not there.
    """
    source = resolve_source("evaluation", name, sources(EVALUATIONS, files))
    if reader := source.reader(files):
        asked = {"name": name, "label": label, "options": dict(options), "files": [str(file) for file in files]}
        found = checked(EvaluationDescription, reader.read("evaluation", **asked), f"the evaluation {name!r}")
        known = {"name": name, "code": source.code, "needs_whole_model": found.facts.get("needs_whole_model", True)}
        known |= {"plugin_file": str(source.file)} if source.file else {}
        return EvaluationDescription(facts={**found.facts, **known}, label=found.label)
    bound = BoundEvaluation.from_options(name, label, options, shared, files)
    return EvaluationDescription(facts=dict(bound.facts), label=bound.label)
