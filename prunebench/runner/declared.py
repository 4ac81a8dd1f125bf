"""What the process that ran a method says of it: bounded, and recorded as the method's own word.

Nothing here is measured. Zeros, digests, figures, wall time and peak memory are found by other processes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from prunebench.errors import AllocationError, ContractError, first_line
from prunebench.pruning import NM, Allocated, Sparsity
from prunebench.pruning.sparsity import PatternError, parse_pattern
from prunebench.records.record import Cost, Effort, Failure
from prunebench.runner.effort import Counts, Training
from prunebench.runner.events import NAME_LENGTH, NOTE_LENGTH, NOTES, TRACE_ROWS, TRACE_VALUES
from prunebench.suite.cell import Cell
from prunebench.suite.fields import Strict

Name = Annotated[str, StringConstraints(max_length=NAME_LENGTH)]
_LAYERS = TypeAdapter(dict[Name, Name])
SUMMED = ("process_seconds", "allocate_seconds")  # amounts that several stages add up to
Amount = Annotated[int, Field(ge=0, lt=1 << 63)]


Notes = Annotated[dict[Annotated[str, StringConstraints(max_length=NOTE_LENGTH)], Amount], Field(max_length=NOTES + 1)]
Trace = Annotated[
    tuple[Annotated[dict[Name, float], Field(max_length=TRACE_VALUES + 1)], ...], Field(max_length=TRACE_ROWS)
]


class Broken(Strict):
    """What a process says whose method failed.

    Args:
        failure: what ended it.
        notes, trace: as in ``Declared``.
    """

    failure: Failure
    notes: Notes = Field(default={})
    trace: Trace = ()


class Declared(Strict):
    """What the pruning process declares.

    Args:
        changes: what the method's class says it may change.
        wrappers: what surrounded the method.
        wrapper_traces: what they traced, by wrapper.
        notes: adjustments, counted.
        trace: values of an iterative method.
        amounts: further costs.
        tokens_seen: calibration tokens that the method took.
        passes: the same, divided by those of the text that they were drawn from.
        effort: tokens and operations, counted by the harness in that process.
        prune_seconds: duration of the allocation and of the call of the method, by the clock of its own process.
        peak_bytes: peak memory, of the device where that is not the CPU.
    """

    changes: Literal["prunable", "all", "nothing"]
    wrappers: tuple[Name, ...] = Field(default=(), max_length=100)
    wrapper_traces: dict[Name, Trace] = Field(default={}, max_length=100)
    notes: Notes = Field(default={})
    trace: Trace = ()
    amounts: dict[Name, Any] = Field(default={}, max_length=100)
    tokens_seen: Amount = 0
    passes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    effort: Counts | None = None
    prune_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    peak_bytes: Amount | None = None

    def cost(self) -> Cost:
        """The cost of pruning; amounts of the method's own cannot replace the others.

        Raises:
            ContractError: an amount is none.
        """
        known = {"tokens_seen": self.tokens_seen, "prune_seconds": self.prune_seconds, "peak_bytes": self.peak_bytes}
        amounts = {name: amount for name, amount in self.amounts.items() if name != "passes"}
        known |= {"passes": self.passes} if self.tokens_seen else {}
        try:
            return Cost.model_validate({**amounts, "evaluate_seconds": None, **known})
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ContractError(
                f"the method accounts for {wrong['loc'][0]!r} wrongly: {wrong['msg'].lower()}"
            ) from None


class HandedOver(Strict):
    """A model as one stage has handed it over, and what is known of it from before its method was imported.

    Args:
        file: its tensors.
        stage: number of the stage, from 0.
        layers: the text of each layer's pattern, where an allocation shared the zeros out.
        masks: by matrix, digests of the masks that the stage found: those that a method that holds them must leave.
    """

    file: Path
    stage: Annotated[int, Field(ge=0)] = 0
    layers: dict[Name, Name] | None = None
    masks: dict[Name, Name] | None = None


def cost_of(stages: Sequence[Declared]) -> Cost:
    """What all stages cost together: sums, and of memory the most; of other amounts those of the last.

    Raises:
        ContractError: an amount is none.
    """
    costs = [declared.cost().model_dump(exclude_none=True) for declared in stages]
    total = {name: amount for cost in costs for name, amount in cost.items()}
    for combine, names in ((sum, ("prune_seconds", "tokens_seen", "passes", *SUMMED)), (max, ("peak_bytes",))):
        for name in names:
            if found := [cost[name] for cost in costs if isinstance(cost.get(name), int | float)]:
                total[name] = combine(found)
    return Cost.model_validate(total)


def efforts_of(stages: Sequence[Declared]) -> tuple[Effort, ...]:
    """The effort of each stage."""
    return tuple(
        Effort(stage=stage, seconds=declared.prune_seconds, **declared.effort.model_dump(exclude={"training"}))
        for stage, declared in enumerate(stages)
        if declared.effort is not None
    )


def training_of(stages: Sequence[Declared]) -> Training | None:
    """What gradients went through in any stage; None if that was not counted."""
    found = [declared.effort.training for declared in stages if declared.effort is not None]
    return max(found, key=get_args(Training).index, default=None)


def sparsity_of(cell: Cell, layers: Any) -> Sparsity:
    """What was asked of each layer: the pattern of the cell, shared out by its allocation if it has one.

    Args:
        cell: names the allocation.
        layers: the text of each layer's pattern, as the allocation gave it before the method was imported; None where
            there was none. That they add up is checked where the model is.

    Raises:
        AllocationError: they are missing, are there without an allocation, or are no patterns.
    """
    if (layers is None) != (cell.allocation_rule is None):
        raise AllocationError(f"the allocation {cell.allocation!r} gave no patterns, or some came without it")
    if layers is None:
        return cell.sparsity
    try:
        patterns = {name: parse_pattern(text) for name, text in _LAYERS.validate_python(layers).items()}
    except (PatternError, ValidationError) as error:
        raise AllocationError(f"the allocation gives a layer what is no pattern: {first_line(error)}") from None
    if isinstance(cell.sparsity, NM) or any(isinstance(own, NM) for own in patterns.values()):
        raise AllocationError(f"{cell.sparsity} fixes the zeros of every group, so that there are none to share out")
    return Allocated(cell.sparsity, patterns)
