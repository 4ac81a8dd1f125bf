"""The cell: one unit of a sweep, as plain JSON."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field, model_validator

from prunebench.errors import SuiteError
from prunebench.evaluation.interface import BoundEvaluation, is_ours
from prunebench.records.cell_facts import PatternFacts, PublishedFigure, StageFacts, SuiteFacts, TuningFacts
from prunebench.records.record import SCHEMA
from prunebench.suite.allocations import CellAllocation
from prunebench.suite.fields import PatternText, Sparing, Strict, Windows

CLASS_FACTS = (
    "changes",
    "takes_data",
    "brought",
    "cites",
)  # fields of a cell that its method's code decides, which stands in the id
COMPUTED = {"id", "key", "stages", "pattern"}
# What a cell's id does not depend on: paths, versions, and what merely repeats another field.
RECORDED_ONLY = {
    *("id", "stages", "pattern", "source", "revision", "device", "tokenizer"),
    *("distribution", "version", "plugin_file", "wrapper_files", "published", "tuning", "suite", *CLASS_FACTS),
}

RECORDED_OF_STAGES = ("distribution", "version", "plugin_file", "mask", *CLASS_FACTS)
# The same of its calibration, evaluations and allocation.
LOCATIONS = (
    *("source", "include_path", "batch_size", "distribution", "version", "plugin_file", "corpus_file", "made"),
    *("needs_whole_model", "makes_text"),
)


class CellCalibration(Sparing):
    """Calibration text, found: ``corpus`` is its name, ``source`` where it lies, ``digest`` the SHA-256 of it.

    ``plugin_file`` is where its corpus plugin is, if that is not installed; ``made`` says that the model makes it.
    ``code`` identifies the code of a plugin's corpus; None for a file and for a data set of the hub. ``field`` is that
    of its records that holds the text; ``apply_chat_template`` says that these are chats. ``noise`` is the share
    of letters and digits that are changed.
    """

    corpus: str
    source: str
    split: str | None
    nsamples: int
    seqlen: int
    windows: Windows
    digest: str
    plugin_file: str | None = None
    made: bool = False
    code: str | None = None
    field: str | None = None
    apply_chat_template: bool = False
    noise: float | None = None
    spared: ClassVar[tuple[str, ...]] = ("plugin_file", "made", "field", "apply_chat_template", "noise")


class CellEvaluation(BaseModel):
    """An evaluation to make: its name, and the facts that it resolved to when the suite was planned."""

    model_config = ConfigDict(frozen=True, extra="allow", ser_json_inf_nan="strings")

    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """Name and facts as plain JSON."""
        return self.model_dump(mode="json")

    @property
    def needs_whole_model(self) -> bool:
        """Whether a model on disk cannot be measured, as its class said when the suite was planned, or says now."""
        known = self.facts.get("needs_whole_model")
        if known is None:
            return self.bound().needs_whole_model if is_ours(self.facts) else True
        return bool(known)

    @property
    def verifies(self) -> bool:
        """Whether there may be text on which it can be made once more: its corpus makes new text."""
        return bool(self.facts.get("makes_text"))

    def bound(self) -> BoundEvaluation:
        """The evaluation itself.

        Raises:
            MethodError: it is not installed, or refuses its options.
        """
        return BoundEvaluation.from_facts(self.facts)


class StageMethod(NamedTuple):
    """The method of one stage, as the runner needs it; ``changes`` is None where a cell holds that of all its stages.

    ``mask`` is what it does with the masks that it finds; None for the first.
    """

    plugin: str
    plugin_file: str | None
    options: dict[str, Any]
    changes: str | None
    mask: str | None = None


class CellStage(Strict):
    """A method that follows another: what a cell holds of it; the fields are those of the cell's own method.

    ``mask`` is what its class says it does with the masks that it finds.
    """

    plugin: str
    distribution: str
    version: str
    plugin_file: str | None = None
    changes: str = "prunable"
    takes_data: bool = True
    mask: Literal["held", "moves"]
    code: str | None = None
    options: dict[str, Any]

    @property
    def facts(self) -> StageFacts:
        """What a record tells of it."""
        return StageFacts(method=self.plugin, plugin=self.plugin, options=self.options, code=self.code)


class Cell(Sparing):
    """One model, pruned by one method to one sparsity from one seed, and how it is measured.

    ``key`` is what tables and comparisons match on; it is stable when a default changes. ``id`` decides whether a
    record is still good: it depends on everything that can change the outcome, and on no path, no version of a
    distribution and no commit. A field at its default, and an option that is None, do not enter it, so that fields and
    options may be added later without a change of any id.

    ``allocation`` is what tables call how the zeros are shared out, ``allocation_rule`` what does it; None is uniform.
    ``code`` is the digest of the method's code or its stated revision, ``wrappers`` the same of each installed wrapper,
    and ``toolkit`` the revision of ``prunebench.pruning``. ``published`` is what others found for the cell, ``tuning``
    how its options were chosen, ``suite`` what it is run for.
    ``then`` are the methods that follow the first one, which ``plugin``, ``code`` and ``options`` are of.
    ``plugin_file`` and ``wrapper_files`` are Python files that its method and wrappers are read from; ``changes`` and
    ``takes_data`` are what the methods' classes say: the widest, and whether any does; ``brought`` says that the first
    one brings weights that were pruned elsewhere, ``cites`` what to cite for all of them. ``trust_remote_code`` lets
    the model's own code run. ``chat_template`` is the digest of the tokenizer's chat template, where one is applied.
    ``tokenizer`` is where
    another one than the model's own lies, whose content is in ``model_digest``.
    """

    spared: ClassVar[tuple[str, ...]] = (
        *("then", "tuning", "chat_template", "tokenizer", "attn_implementation", "cites", "suite"),
    )

    model: str
    source: str
    revision: str | None
    dtype: str
    device: str
    model_digest: str
    method: str
    plugin: str
    distribution: str
    version: str
    plugin_file: str | None = None
    wrapper_files: tuple[str, ...] = ()
    changes: str = "prunable"
    takes_data: bool = True
    brought: bool = False
    cites: tuple[str, ...] = ()
    code: str | None = None
    options: dict[str, Any]
    then: tuple[CellStage, ...] = ()
    sparsity: PatternText
    allocation: str
    allocation_rule: CellAllocation | None = None
    seed: int
    calibration: CellCalibration
    evaluations: tuple[CellEvaluation, ...]
    published: tuple[PublishedFigure, ...] = ()
    tuning: TuningFacts | None = None
    suite: SuiteFacts | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    tokenizer: str | None = None
    attn_implementation: str | None = None
    wrappers: dict[str, str] | None = None
    toolkit: int = 0

    @model_validator(mode="before")
    @classmethod
    def _without_computed(cls, content: Any) -> Any:
        """A cell that was written as JSON is read back; what is computed is computed again."""
        return {k: v for k, v in content.items() if k not in COMPUTED} if isinstance(content, dict) else content

    @computed_field  # type: ignore[prop-decorator]
    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """(model, method, sparsity, allocation, seed, calibration corpus)."""
        return (self.model, self.method, str(self.sparsity), self.allocation, self.seed, self.calibration.corpus)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def stages(self) -> tuple[StageFacts, ...]:
        """The methods that prune the model, in their order."""
        label = self.plugin if self.then else self.method
        first = StageFacts(method=label, plugin=self.plugin, options=self.options, code=self.code)
        return (first, *(stage.facts for stage in self.then))

    @property
    def methods(self) -> tuple[StageMethod, ...]:
        """The methods that prune the model, in their order."""
        first = StageMethod(self.plugin, self.plugin_file, self.options, None if self.then else self.changes)
        others = (
            StageMethod(each.plugin, each.plugin_file, each.options, each.changes, each.mask) for each in self.then
        )
        return (first, *others)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pattern(self) -> PatternFacts:
        """The sparsity with its kind."""
        return PatternFacts(kind=self.sparsity.kind, text=str(self.sparsity))

    def to_json(self) -> str:
        """The cell as JSON: all that is needed to run it, on this machine or another."""
        return self.model_dump_json(exclude={"id", "key"})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The cell that ``to_json`` wrote: of the same id, which is worked out anew.

        Raises:
            SuiteError: it is none.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part)[:80] for part in first["loc"])
            raise SuiteError(f"this is no cell in JSON: {f'{place}: ' if place else ''}{first['msg']}") from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other facts, and so of another id."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("id", None)
        return copied

    @property
    def skipped(self) -> tuple[CellEvaluation, ...]:
        """Evaluations that are not made, since a model on disk never is in memory as a whole."""
        if self.device != "disk":
            return ()
        return tuple(evaluation for evaluation in self.evaluations if evaluation.needs_whole_model)

    @property
    def identity(self) -> dict[str, Any]:
        """All that the id depends on, as plain JSON."""
        content = self.model_dump(mode="json", exclude=RECORDED_ONLY, exclude_defaults=True)
        for part in (content["calibration"], *content["evaluations"]):
            for name in LOCATIONS:
                part.pop(name, None)
        for name in LOCATIONS:
            content.get("allocation_rule", {}).pop(name, None)
        for stage in content.get("then", ()):
            for name in RECORDED_OF_STAGES:
                stage.pop(name, None)
        content = dict(_without_none(content))
        if self.skipped:  # else its record would pass for one that has them
            content["skipped"] = len(self.skipped)
        return content

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def id(self) -> str:
        """A readable slug and a short hash; the name of the record's file."""
        text = json.dumps([SCHEMA, self.identity], sort_keys=True, ensure_ascii=False)
        shared = () if self.allocation_rule is None else (self.allocation,)
        words = (self.model, self.method, str(self.sparsity).replace(":", "of"), *shared, f"s{self.seed}")
        slug = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-.") or "x" for word in words)
        return f"{slug[:96]}--{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def sparsity_text(cell: Cell) -> str:
    """The sparsity of a cell, with its allocation unless that is uniform: "0.7", "0.7 owl"."""
    return str(cell.sparsity) if cell.allocation == "uniform" else f"{cell.sparsity} {cell.allocation}"


def _without_none(value: Any) -> Any:
    """Plain JSON without the entries of mappings that are null."""
    if isinstance(value, dict):
        return {name: _without_none(entry) for name, entry in value.items() if entry is not None}
    return [_without_none(entry) for entry in value] if isinstance(value, list) else value
