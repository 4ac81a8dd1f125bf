"""The suite: what a file asks for, checked and complete."""

import re
from typing import Annotated, Any

from pydantic import ByteSize, Field, ValidationInfo, field_validator, model_validator

from prunebench.errors import quoted, suggest
from prunebench.registry.entry_points import EVALUATIONS, sources
from prunebench.suite.entries import UNIFORM, AllocationEntry, Calibration, EngineEntry, ModelEntry
from prunebench.suite.evaluation_entries import Evaluation
from prunebench.suite.fields import PatternText, Place, Strict, as_several
from prunebench.suite.method_entries import MethodEntry


class Suite(Strict):
    """Models × methods × sparsities × seeds, and how to measure them.

    Args:
        name: of the suite, and of its results folder.
        description: what it is for.
        models: what to prune.
        calibration: the text that methods may use.
        sparsities: fractions of zeros, as 0.9, or n:m with n kept of every m inputs, as 2:4.
        allocation: how zeros are shared out among the layers.
        seeds: one cell each, for methods that take data.
        methods: what to compare.
        evaluations: what to measure of each pruned model.
        published: a CSV file of figures from elsewhere, or several, to be shown beside ours; a cell may have figures of
            several sources. See ``prunebench.suite.published``.
        timeout: seconds, or a text as 90s, 30m, 2h, 1d, after which a cell fails; by default none.
        memory_limit: bytes, or a text as 20GiB, of resident memory above which a cell fails; by default none.
        engine: where cells run; by default on this machine.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    calibration: Calibration
    sparsities: tuple[PatternText, ...] = Field(min_length=1)
    allocation: tuple[AllocationEntry, ...] = Field(default=(UNIFORM,), min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    methods: tuple[MethodEntry, ...] = Field(min_length=1)
    evaluations: tuple[Evaluation, ...] = Field(min_length=1)
    published: Place | Annotated[tuple[Place, ...], Field(min_length=1)] | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    memory_limit: Annotated[ByteSize, Field(gt=0)] | None = None
    engine: EngineEntry | None = None

    @property
    def published_files(self) -> tuple[str, ...]:
        """The files of published figures."""
        return (self.published,) if isinstance(self.published, str) else self.published or ()

    @field_validator("timeout", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhd])\s*", value)
        if not match:
            raise ValueError(f"{quoted(value)} is no duration: give seconds, or a text as 90s, 30m, 2h or 1d")
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]

    @field_validator("allocation", mode="before")
    @classmethod
    def _allocations(cls, value: Any) -> Any:
        return as_several(value)

    @field_validator("evaluations", mode="before")
    @classmethod
    def _known_evaluations(cls, value: Any, info: ValidationInfo) -> Any:
        names = sources(EVALUATIONS, (info.context or {}).get("plugin_files", ()))
        for entry in value if isinstance(value, list | tuple) else ():
            name = entry.get("name") if isinstance(entry, dict) else getattr(entry, "name", entry)
            if not isinstance(name, str) or name not in names:
                raise ValueError(f"unknown evaluation {quoted(name)}: {suggest(str(name)[:80], names)}")
        return value

    @model_validator(mode="after")
    def _labels_are_told_apart(self) -> "Suite":
        allocations = [UNIFORM]  # baselines have it, whatever the suite asks for
        for row in (self.allocation, *(entry.allocation or () for entry in self.methods)):
            allocations += [entry for entry in row if entry not in allocations]
        for kind, labels in (
            ("models", [entry.name for entry in self.models]),
            (
                "methods",
                [entry.title for entry in self.methods if any(self._entries_overlap(entry, x) for x in self.methods)],
            ),
            ("allocations", [entry.title for entry in allocations]),
        ):
            if twice := sorted({label for label in labels if labels.count(label) > 1}):
                raise ValueError(f"two {kind} are called {twice[0]!r}: give each a label of its own")
        return self

    def _entries_overlap(self, one: MethodEntry, other: MethodEntry) -> bool:
        """Whether two entries of one label would make the same cell, or are of different methods."""
        if one is other or one.title != other.title:
            return False
        every = tuple(entry.name for entry in self.models)
        models, sparsities = (
            {*(getattr(one, axis) or all_)} & {*(getattr(other, axis) or all_)}
            for axis, all_ in (("models", every), ("sparsities", self.sparsities))
        )
        own, others = ({rule.title for rule in entry.allocation or self.allocation} for entry in (one, other))
        return one.names != other.names or bool(models and sparsities and own & others)

    @model_validator(mode="after")
    def _narrowed_sparsities_are_there(self) -> "Suite":
        asked = [sparsity for entry in self.methods for sparsity in entry.sparsities or self.sparsities]
        for entry in self.evaluations:
            for sparsity in entry.sparsities or ():
                if sparsity not in asked:
                    raise ValueError(
                        f"the evaluation {entry.label or entry.name!r} is for sparsity {sparsity}, and no method is: "
                        f"{suggest(str(sparsity), dict.fromkeys(map(str, asked)))}"
                    )
        return self

    @model_validator(mode="after")
    def _narrowed_models_are_there(self) -> "Suite":
        names = [entry.name for entry in self.models]
        for kind, title, models in (
            *(("method", entry.title, entry.models) for entry in self.methods),
            *(("evaluation", entry.label or entry.name, entry.models) for entry in self.evaluations),
        ):
            for name in models or ():
                if name not in names:
                    raise ValueError(f"the {kind} {title!r} is for the model {name!r}: {suggest(name, names)}")
        for name in names:
            if not any(entry.is_for(name) for entry in self.evaluations):
                raise ValueError(f"no evaluation is for the model {name!r}: name it in 'models' of one")
        return self
