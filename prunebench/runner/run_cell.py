"""One cell, run: prune, check, measure. A failed cell is a record with its error."""

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch

from prunebench.allocations import allocate, make_allocation
from prunebench.contract.checks import Snapshot, watched
from prunebench.evaluation.interface import BoundEvaluation, Shared
from prunebench.models.digest import weights_digest
from prunebench.models.loading import load_model
from prunebench.models.saving import save_checkpoints
from prunebench.pruning import CalibrationData, Sparsity, account
from prunebench.pruning.callbacks import note, use_checkpointer, use_observer
from prunebench.pruning.offload import written_back
from prunebench.records.record import SCHEMA, SECTIONS, CellFacts, Cost, Failure, MethodFacts, Record
from prunebench.records.store import read_record, write_record
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager, wrappers_of
from prunebench.registry.method_class import MethodClass
from prunebench.runner.disk_space import check_room
from prunebench.runner.environment import environment
from prunebench.runner.events import Display, EventRecorder
from prunebench.runner.mask_sample import mask_sample
from prunebench.runner.memory import PeakMemory
from prunebench.runner.resources import Resources
from prunebench.runner.resume import (
    PRUNE,
    Clock,
    EvaluationProgress,
    ResumeContext,
    StoredAnswers,
    restore_pruned,
    save_pruned,
)
from prunebench.runner.saved_state import INTERVAL, SavedState
from prunebench.suite.cell import Cell
from prunebench.suite.identity import refuse_changed_code
from prunebench.tracebacks import describe_error, plain_traceback

WORTH_KEEPING = 10.0  # seconds of pruning that the pruned model is kept for while it is measured


class InProcess:
    """An ``Executor`` that runs cells in this process: one that crashes or hangs takes the sweep along.

    Args:
        shared: what evaluations have looked up already.
        every: seconds between two saves of a cell's progress.
        stop: once set, the cell in hand ends by ``Stopped`` when its progress is saved.
    """

    def __init__(self, shared: Shared | None = None, *, every: float = INTERVAL, stop: Event | None = None) -> None:
        self._workshop = Resources(shared)
        self.every, self._stop = every, stop

    def prepare(self, cells: Sequence[Cell], output: Path, *, save_models: bool = False) -> None:
        """Tokenise every text, load every task, see that there is room.

        Args:
            cells: to be run.
            output: the results folder.
            save_models: whether pruned models will be kept in it.

        Raises:
            UsageError: a text does not fit, or the disk has no room for models on it.
        """
        self._workshop.output = output
        self._workshop.prepare(cells)
        check_room(cells, self._workshop, output, save_models=save_models)

    def run(
        self,
        cell: Cell,
        output: Path,
        display: Display,
        *,
        save_models: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Record:
        """Run a cell and write its record.

        Args:
            cell: what to run.
            output: the results folder.
            display: shows the progress.
            save_models: keep the pruned model too.
            wanted: not asked: nothing can be stopped here.

        Raises:
            OutputError: the folder cannot be written.
            Stopped: a stop was asked for.
        """
        saved_state = SavedState.of(output, cell, interval=self.every, stop=self._stop)
        saved_to = output if save_models else None
        record, arrays = run_cell(cell, self._workshop, display, save_to=saved_to, saved_state=saved_state)
        path = write_record(output, record, arrays)
        if record.status == "ok":
            saved_state.remove()
        else:  # it would fail there again; a model that is pruned is kept, if it was kept
            saved_state.forget(PRUNE)
        return read_record(path)


def run_cell(
    cell: Cell,
    resources: Resources,
    display: Display,
    *,
    save_to: Path | None = None,
    saved_state: SavedState | None = None,
) -> tuple[Record, dict[str, np.ndarray]]:
    """Prune and measure one cell.

    Args:
        cell: what to run.
        resources: what cells share.
        display: shows the progress.
        save_to: the results folder that takes the pruned model; None to let it go.
        saved_state: what an interrupted attempt left, and takes what this one leaves; None for neither.

    Returns:
        The record, and the arrays to keep beside it. Whatever goes wrong inside is a record of status "failed".

    Raises:
        Stopped: ``saved_state.stop`` was set; the next attempt goes on from here.
    """
    run = _Run(cell, resources, display, saved_state or SavedState())
    error = None
    try:
        with use_observer(run.events), resources.work_folder(cell) as work:
            run.prune_and_measure(work, save_to)
    except Exception as failure:  # a plugin may raise anything
        error = failure_of(failure)
        run.arrays.clear()
    finally:
        gc.collect()
    record = Record(
        schema_version=SCHEMA,
        cell=CellFacts.model_validate(cell.model_dump(mode="json")),
        status="failed" if error else "ok",
        error=error,
        notes=dict(run.events.notes),
        trace=run.events.rows,
        **run.facts,
    )
    return record, run.arrays


def failure_of(error: BaseException) -> Failure:
    """What a record says of an exception that ended a cell."""
    return Failure(type=type(error).__name__, message=describe_error(error), traceback=plain_traceback(error))


class _Run:
    """One run of a cell; ``facts`` and ``arrays`` fill as it goes, so that a failure keeps what came before.

    Args:
        cell, resources, display, saved_state: see ``run_cell``.
    """

    def __init__(self, cell: Cell, resources: Resources, display: Display, saved_state: SavedState) -> None:
        self.cell, self.resources, self.display, self.saved_state = cell, resources, display, saved_state
        self.events = EventRecorder(display)
        self.facts: dict[str, Any] = {"environment": environment(cell)}
        self.arrays: dict[str, np.ndarray] = {}
        self.model: Any = None
        self.tokenizer: Any = None

    def prune_and_measure(self, work: Path | None, save_to: Path | None) -> None:
        """The phases of a cell.

        Args:
            work: folder for a model that stays on disk.
            save_to: the results folder that takes the pruned model; None to let it go.
        """
        cell = self.cell
        self.display.phase("load")
        method = load_method(cell.plugin, [Path(cell.plugin_file)] if cell.plugin_file else [])
        refuse_changed_code(cell)
        self.facts["method"] = MethodFacts(changes=method.changes, takes_data=method.takes_data)
        self.model, self.tokenizer = load_model(
            self.resources.model(cell), dtype=cell.dtype, device=cell.device, work=work
        )
        if not restore_pruned(self.saved_state, self.model, self.events, self.facts, self.arrays):
            self._prune(method)
            if self.saved_state.due() or self.facts["cost"].prune_seconds > WORTH_KEEPING:
                save_pruned(self.saved_state, self.model, method.changes, self.events, self.facts, self.arrays)

        self.facts |= {section: {} for section in (*SECTIONS, "chance")}
        progress = EvaluationProgress(self.saved_state, self.events, self.facts, self.arrays, len(cell.evaluations))
        for evaluation in cell.evaluations[progress.finished :]:
            if evaluation in cell.skipped:
                note("an evaluation that needs the whole model in memory was skipped", evaluation=evaluation.name)
            else:
                self._evaluate(evaluation.bound(), progress.answers())
            progress.record_finished()
        self.facts["cost"] = self.facts["cost"].model_copy(update={"evaluate_seconds": progress.seconds})

        if save_to is not None and method.changes != "nothing":
            self.display.phase("save")
            self.facts["saved"] = save_checkpoints(self.model, self.tokenizer, save_to, cell.id, cell.sparsity)

    def _prune(self, method: MethodClass) -> None:
        """Prune and check, from where an interrupted attempt stood."""
        cell, wanted = self.cell, self.cell.calibration
        pool = self.resources.pool(cell, self.tokenizer)
        data = CalibrationData(pool, nsamples=wanted.nsamples, seqlen=wanted.seqlen, seed=cell.seed)
        if data.nsamples < wanted.nsamples:
            note("calibration text holds fewer windows than nsamples", windows=data.nsamples)
        if any(evaluation.facts.get("digest") == wanted.digest for evaluation in cell.evaluations):
            note("calibration and perplexity use the same text")
        sparsity, alongside = self._allocated(data)
        manager = plugin_manager(method, cell.options)
        self.facts["environment"]["wrappers"] = wrappers_of(manager, method)
        instance = manager.get_plugin(method.name)
        before = Snapshot.of(self.model, sparsity, method.changes, data=data, method=instance)

        self.display.phase("prune")
        with PeakMemory(cell.device) as peak:
            clock = Clock()
            with (
                watched() as watch,
                written_back(self.model),
                use_checkpointer(ResumeContext(self.saved_state, (self.events, data, watch, clock))),
            ):
                manager.hook.prune(model=self.model, data=data, sparsity=sparsity)
            if cell.device == "cuda":
                torch.cuda.synchronize()
            seconds = clock.state()
        self.events.notes |= alongside.notes  # what both say, as of experts that saw little, counts once
        amounts = {**alongside.amounts, **self.events.amounts}
        self.facts["cost"] = Cost(prune_seconds=seconds, peak_bytes=peak.bytes, tokens_seen=data.tokens_seen, **amounts)

        self.display.phase("check")
        self.facts["sparsity"] = before.verify(self.model, data=data, method=instance, watch=watch)
        self.facts["environment"]["weights_digest"] = weights_digest(self.model)
        if method.changes != "nothing":
            self.arrays["mask"] = mask_sample(self.model, sparsity)

    def _allocated(self, data: CalibrationData) -> tuple[Sparsity, EventRecorder]:
        """What is asked of the method, and what was heard while it was worked out."""
        pattern, rule, events = self.cell.sparsity, self.cell.allocation_rule, EventRecorder(self.display)
        if rule is None:
            return pattern, events
        self.display.phase("allocate")
        began = time.perf_counter()
        with use_observer(events):
            sparsity = allocate(make_allocation(rule.name, rule.options), self.model, data, pattern)
            account(allocate_seconds=time.perf_counter() - began)
        return sparsity, events

    def _evaluate(self, evaluation: BoundEvaluation, saved: StoredAnswers) -> None:
        self.display.phase(evaluation.title)
        available = {**self.resources.available(self.cell), "saved": saved}
        result = evaluation.measure(self.model, self.tokenizer, **available)
        self.facts["chance"] |= result.chance
        section = self.facts[evaluation.section]
        for name, values in result.values.items():
            section.setdefault(name, {}).update(values)
        self.arrays.update({f"{evaluation.section}/{name}": values for name, values in result.arrays.items()})
