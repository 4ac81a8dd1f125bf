"""One cell, run: pruned in a stage or several, checked and measured in another. A failed cell is a record, too."""

import secrets
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from prunebench.errors import ContractError, PrunebenchError, first_line
from prunebench.evaluation.interface import is_ours
from prunebench.records.record import SCHEMA, SECTIONS, CellFacts, Cost, Failure, MethodFacts, Record
from prunebench.records.store import record_to_json
from prunebench.runner.declared import Declared, HandedOver, cost_of, efforts_of, sparsity_of, training_of
from prunebench.runner.environment import Share, environment
from prunebench.runner.measure_stage import Measured, ToMeasure
from prunebench.runner.pruning_stages import PruningStages
from prunebench.runner.resume import MEASURE, OTHERS
from prunebench.runner.saved_state import SavedState
from prunebench.suite.cell import CLASS_FACTS, Cell
from prunebench.tracebacks import describe_error, plain_traceback


@dataclass(frozen=True)
class Limits:
    """What a cell may take; None is without limit. Only a process of its own can be held to it.

    Args:
        seconds: of wall clock, from its beginning to its record, and for the reading of texts and tasks before all.
        bytes: of resident memory, of the process of a stage and of those that it started.
    """

    seconds: float | None = None
    bytes: int | None = None


Found = tuple[Measured, dict[str, np.ndarray], Failure | None]
"""What measuring found, its arrays, and what ended it before its end."""


class Stages(Protocol):
    """Who runs the stages of a cell: this process, or each a process of its own."""

    measured: str
    waiting: dict[str, str]
    """The environment variables that say how threads wait; see ``prunebench.runner.openmp``."""
    share: Share
    """What its worker has of the machine."""

    def prune(
        self, cell: Cell, saved_state: SavedState, work: Path, before: HandedOver | None
    ) -> tuple[Declared, HandedOver]:
        """What the next method says, and what it hands over, in ``work``.

        Args:
            cell: what runs.
            saved_state: what an interrupted attempt at this stage left, and takes what this one leaves.
            work: an empty folder.
            before: what the stage before handed over; None for the first.

        Raises:
            StageFailed: the method failed, or its process did.
        """

    def measure(
        self,
        cell: Cell,
        saved_state: SavedState,
        work: Path,
        handed: HandedOver,
        asked: ToMeasure,
    ) -> Found:
        """Check what was handed over, and make some evaluations."""


class StageFailed(Exception):  # noqa: N818
    """A stage came to no end.

    Args:
        failure: what ended it.
        notes, trace: what was heard until then.
    """

    def __init__(self, failure: Failure, notes: dict[str, int], trace: Sequence[dict[str, float]]) -> None:
        super().__init__(failure.message)
        self.failure, self.notes, self.trace = failure, notes, trace


def run_stages(
    cell: Cell, stages: Stages, work: Path, saved_state: SavedState, save_to: Path | None, *, verify: bool = False
) -> tuple[Record, dict[str, np.ndarray]]:
    """Prune and measure one cell.

    Args:
        cell: what to run.
        stages: who runs the stages.
        work: an empty folder.
        saved_state: what an interrupted attempt left, and takes what this one leaves.
        save_to: the results folder that takes the pruned model; None to let it go.
        verify: whether evaluations are made once more on text that is made after pruning.

    Returns:
        The record, and the arrays to keep beside it. Whatever goes wrong inside is a record of status "failed".

    Raises:
        Stopped: ``saved_state.stop`` was set; the next attempt goes on from here.
    """
    run = _Run(cell, stages, work, saved_state)
    error = None
    try:
        run.prune_and_measure(save_to, verify=verify)
    except StageFailed as failed:
        error = failed.failure
        run.notes.update(failed.notes)
        run.trace = list(failed.trace) or run.trace
    except PrunebenchError as failure:
        error = failure_of(failure)
    if error:
        run.arrays.clear()
    try:
        record = run.record(error, run.facts)
        Record.model_validate_json(record_to_json(record))  # so that what is written can be read again
        return record, run.arrays
    except ValueError as wrong:  # what a plugin said of its costs, or found, is nothing that a record can hold
        known = {name: run.facts[name] for name in ("measured", "environment", "method")}
        message = f"an outcome that no record can hold: {first_line(wrong)}"
        return run.record(error or Failure(type="MalformedMessage", message=message), known), {}


def failure_of(error: BaseException) -> Failure:
    """What a record says of an exception that ended a stage."""
    if isinstance(error, SystemExit):
        message = f"sys.exit({error.code!r}) was called: a method returns when it is done, and raises when it cannot be"
    else:
        message = describe_error(error)
    return Failure(type=type(error).__name__, message=message, traceback=plain_traceback(error))


class _Run:
    """One run of a cell; ``facts`` and ``arrays`` fill as it goes, so that a failure keeps what came before."""

    def __init__(self, cell: Cell, stages: Stages, work: Path, saved_state: SavedState) -> None:
        self.cell, self.stages, self.work, self.saved_state = cell, stages, work, saved_state
        self.facts: dict[str, Any] = {
            "measured": stages.measured,
            "environment": {**environment(cell, stages.share), "openmp": stages.waiting},
            "method": MethodFacts(
                changes=cell.changes, takes_data=cell.takes_data, brought=cell.brought, cites=cell.cites
            ),
        }
        self.arrays: dict[str, np.ndarray] = {}
        self.notes = Counter[str]()
        self.trace: list[dict[str, float]] = []

    def record(self, error: Failure | None, facts: dict[str, Any]) -> Record:
        """The record of this run."""
        return Record(
            schema_version=SCHEMA,
            cell=CellFacts.model_validate(self.cell.model_dump(mode="json", exclude=set(CLASS_FACTS))),
            status="failed" if error else "ok",
            error=error,
            notes=dict(self.notes),
            trace=tuple(self.trace),
            **facts,
        )

    def prune_and_measure(self, save_to: Path | None, *, verify: bool) -> None:
        """The stages of a cell, those that prune only where no earlier attempt came to their end."""
        cell = self.cell
        if any(evaluation.facts.get("digest") == cell.calibration.digest for evaluation in cell.evaluations):
            self.notes["calibration and perplexity use the same text"] += 1
        said, handed = PruningStages(cell, self.stages, self.work, self.saved_state, self._hear).run()
        if cell.brought:  # pruned elsewhere, at a cost that nobody counted
            self.facts["cost"] = Cost()
        else:
            self.facts["cost"] = cost_of(said)
            self.facts["effort"] = efforts_of(said)
            self.facts["method"] = self.facts["method"].model_copy(update={"training": training_of(said)})
        sparsity_of(cell, handed.layers)

        ours = [evaluation for evaluation in cell.evaluations if is_ours(evaluation.facts)]
        others = [evaluation for evaluation in cell.evaluations if evaluation not in ours]
        self.facts |= {part: {} for part in (*SECTIONS, "chance", "verified")}
        seed = secrets.randbits(62) if verify else None  # drawn now, when no process of the method is left
        known = {"evaluations": ours, "fresh_seed": seed, "save_to": None if others else save_to}
        self._measure(MEASURE, handed, ToMeasure.model_validate(known))
        if others:  # code of plugins, which must not run where the rest is measured
            asked = {"evaluations": others, "fresh_seed": seed, "check": False}
            self._measure(OTHERS, handed, ToMeasure.model_validate(asked))
            if save_to is not None:
                self._measure(MEASURE, handed, ToMeasure(save_to=save_to))

    def _hear(self, declared: Declared) -> None:
        """Take what a stage says of itself; the curve is that of the last stage that traced one."""
        self.notes.update(declared.notes)
        self.trace = list(declared.trace) or self.trace
        environment = self.facts["environment"]
        environment["wrappers"] = list(dict.fromkeys([*environment.get("wrappers", ()), *declared.wrappers]))
        if declared.wrapper_traces:
            traces = {name: list(rows) for name, rows in declared.wrapper_traces.items()}
            environment["wrapper_traces"] = environment.get("wrapper_traces", {}) | traces

    def _measure(
        self,
        part: str,
        handed: HandedOver,
        asked: ToMeasure,
    ) -> None:
        work = Path(tempfile.mkdtemp(prefix=f"{part}.", dir=self.work))
        saved_state = self.saved_state.part(part)
        found, arrays, failure = self.stages.measure(self.cell, saved_state, work, handed, asked)
        if part == OTHERS:  # code of plugins ran there, which tells nothing of the weights
            found = found.model_copy(update={"sparsity": None, "saved": None})
        self._take(found, arrays)
        if failure is not None:
            raise StageFailed(failure, {}, ())

    def _take(self, found: Measured, arrays: dict[str, np.ndarray]) -> None:
        """Add what was measured to what there is; nothing that was found already may be found anew."""
        if found.sparsity is not None:
            self.facts["sparsity"] = found.sparsity
        digest = self.facts["environment"].setdefault("weights_digest", found.weights_digest)
        if found.weights_digest not in (digest, None):
            raise ContractError("the weights were not the same when they were measured again")
        for section in SECTIONS:
            for name, values in found.sections.get(section, {}).items():
                if name in self.facts[section]:
                    raise ContractError(f"two evaluations both report {section} of {name!r}")
                self.facts[section][name] = values
        for part, more in (("chance", found.chance), ("verified", found.verified)):
            if twice := more.keys() & self.facts[part].keys():
                raise ContractError(f"two evaluations both report {part} of {min(twice)!r}")
            self.facts[part] |= more
        counted_again = {"mask"} if found.sparsity is not None else set[str]()
        if twice := arrays.keys() & self.arrays.keys() - counted_again:
            raise ContractError(f"two evaluations both report the array {min(twice)!r}")
        self.arrays |= arrays
        self.notes.update(found.notes)
        self.trace.extend(found.trace)
        if found.saved is not None:
            self.facts["saved"] = found.saved
        seconds = (self.facts["cost"].evaluate_seconds or 0.0) + found.seconds
        self.facts["cost"] = self.facts["cost"].model_copy(update={"evaluate_seconds": seconds})
