"""Entries of a suite for methods, the stages that follow them, and the search for their options."""

import math
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from prunebench.errors import quoted
from prunebench.suite.entries import AllocationEntry, CalibrationChange
from prunebench.suite.evaluation_entries import ValidationText
from prunebench.suite.fields import Count, Named, PatternText, Strict, as_several

MOST_COMBINATIONS = 100_000
"""Of a grid: more were never meant to be listed."""


class Tune(Strict):
    """A search for an entry's options before its cells run.

    Every combination of the grid's values is a trial: a cell that is measured on the validation text alone. Its record
    is kept in ``trials/``. The combination with the lowest loss there is what the suite's cells run with.

    Args:
        grid: the values to try, by option; ``retrain.lr`` is the option ``lr`` of a method ``retrain`` that follows.
        text: what trials are measured on; no text of the suite's own evaluations.
        trials: how many combinations are tried: by default all, else a draw that is always the same.
        sparsities: at which trials run, by default all of the entry's; another one takes the choice of the nearest.
        seeds: of the trials; by default the first of the entry's.
        like: in place of all that: the label of another entry, whose trials choose this one's options too.
    """

    grid: dict[str, tuple[Any, ...]] = Field(default={})
    text: ValidationText | None = None
    trials: Count | None = None
    sparsities: tuple[PatternText, ...] | None = Field(default=None, min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)
    like: str = ""

    @field_validator("grid", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """``retrain: {lr: ...}`` says the same as ``retrain.lr: ...``, and what comes later replaces it."""
        if not isinstance(value, dict):
            return value
        flat: dict[Any, Any] = {}
        for name, values in value.items():
            flat |= (
                {f"{name}.{option}": v for option, v in values.items()} if isinstance(values, dict) else {name: values}
            )
        for name, values in flat.items():
            if not isinstance(values, list | tuple) or not values:
                raise ValueError(
                    f"{name} is to be tried with {quoted(values)}: give a list of values, as [0.001, 0.01]"
                )
        return flat

    @field_validator("grid")
    @classmethod
    def _each_value_once(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for name, values in grid.items():
            for place, value in enumerate(values):
                if value in values[:place]:
                    raise ValueError(f"{name} is to be tried twice with {quoted(value)}: name each value once")
        return grid

    @model_validator(mode="after")
    def _grid_or_like(self) -> "Tune":
        if self.like:
            for name, field in type(self).model_fields.items():
                if name != "like" and getattr(self, name) != field.default:
                    raise ValueError(f"like takes another entry's trials, so that {name!r} has no place beside it")
            return self
        if not self.grid:
            raise ValueError("there is nothing to try: give a grid, as {lr: [0.001, 0.01]}, or like: LABEL")
        combinations = math.prod(len(values) for values in self.grid.values())
        if combinations > MOST_COMBINATIONS:
            raise ValueError(
                f"the grid has {combinations} combinations, more than {MOST_COMBINATIONS}: name fewer values"
            )
        if self.trials is not None and self.trials > combinations:
            raise ValueError(f"{self.trials} trials of a grid that has {combinations} combinations: ask for fewer")
        if self.text is None:
            raise ValueError("a text is missing that trials are measured on, as {corpus: FILE, seqlen: 128}")
        return self


class StageEntry(Named):
    """A method that follows another on the model which that has pruned.

    Args:
        name: an installed method that says what it does with the masks that it finds.
        options: its hyperparameters; what is not named has the method's default.
    """

    name: str = Field(min_length=1)
    options: dict[str, Any] = Field(default={})


class MethodEntry(Named):
    """A method, its options, and what it narrows of the suite's axes.

    Args:
        name: an installed method.
        then: methods that follow it, one after another, on the model that it has pruned.
        label: what tables call it, by default the names joined by plus signs; tells two entries of one method apart.
            Entries for different models, sparsities or allocations may share it: one method, tuned for each.
        options: the method's hyperparameters; what is not named has the method's default.
        models: labels of those of the suite's models that it is for; by default all.
        sparsities, allocation, seeds, calibration: in place of the suite's.
        tune: a search for its options on a validation text, before its cells run.
    """

    name: str = Field(min_length=1)
    then: tuple[StageEntry, ...] = ()
    label: str = ""
    options: dict[str, Any] = Field(default={})
    models: tuple[str, ...] | None = Field(default=None, min_length=1)
    sparsities: tuple[PatternText, ...] | None = None
    allocation: tuple[AllocationEntry, ...] | None = None
    seeds: tuple[int, ...] | None = None
    calibration: CalibrationChange | None = None
    tune: Tune | None = None

    @field_validator("allocation", "then", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return as_several(value)

    @property
    def names(self) -> tuple[str, ...]:
        """The methods of all its stages."""
        return (self.name, *(stage.name for stage in self.then))

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or "+".join(self.names)
