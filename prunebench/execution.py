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
from prunebench.attempt import PRUNE, Attempt, Clock, Measured, keep_pruned, restore_pruned
from prunebench.cell import Cell, CellEvaluation, CellMeasure, CellPerplexity, CellZeroShot
from prunebench.checkpoint import save_checkpoints
from prunebench.contract import Snapshot, watched
from prunebench.data import least_perplexity
from prunebench.disk.room import check_room
from prunebench.ear import Display, Ear
from prunebench.environment import environment
from prunebench.errors import PrunebenchError
from prunebench.evaluation.answers import Answers
from prunebench.evaluation.measure import measure
from prunebench.evaluation.perplexity import perplexity
from prunebench.evaluation.zero_shot import TaskLibrary, zero_shot
from prunebench.masks import mask_sample
from prunebench.memory import PeakMemory
from prunebench.models import load_model, weights_digest
from prunebench.partial import INTERVAL, Partial
from prunebench.plugins import MethodClass, load_method, plugin_manager, wrappers_of
from prunebench.pruning import CalibrationData, Sparsity, account
from prunebench.pruning.audience import keeping, listening
from prunebench.pruning.progress import note
from prunebench.pruning.residence import written_back
from prunebench.pruning.sparsity import parse_pattern
from prunebench.record import (
    SCHEMA,
    CellFacts,
    Cost,
    Failure,
    MethodFacts,
    PerplexityFacts,
    Record,
    read_record,
    write_record,
)
from prunebench.workshop import Workshop

WORTH_KEEPING = 10.0  # seconds of pruning that the pruned model is kept for while it is measured


class InProcess:
    """An ``Executor`` that runs cells in this process: one that crashes or hangs takes the sweep along.

    Args:
        library: tasks that are loaded already.
        every: seconds between two saves of a cell's progress.
        stop: once set, the cell in hand ends by ``Stopped`` when its progress is saved.
    """

    def __init__(
        self, library: TaskLibrary | None = None, *, every: float = INTERVAL, stop: Event | None = None
    ) -> None:
        self._workshop = Workshop(library)
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
        partial = Partial.of(output, cell, interval=self.every, stop=self._stop)
        saved_to = output if save_models else None
        record, arrays = run_cell(cell, self._workshop, display, save_to=saved_to, partial=partial)
        path = write_record(output, record, arrays)
        if record.status == "ok":
            partial.remove()
        else:  # it would fail there again; a model that is pruned is kept, if it was kept
            partial.forget(PRUNE)
        return read_record(path)


def run_cell(
    cell: Cell, workshop: Workshop, display: Display, *, save_to: Path | None = None, partial: Partial | None = None
) -> tuple[Record, dict[str, np.ndarray]]:
    """Prune and measure one cell.

    Args:
        cell: what to run.
        workshop: what cells share.
        display: shows the progress.
        save_to: the results folder that takes the pruned model; None to let it go.
        partial: what an interrupted attempt left, and takes what this one leaves; None for neither.

    Returns:
        The record, and the arrays to keep beside it. Whatever goes wrong inside is a record of status "failed".

    Raises:
        Stopped: ``partial.stop`` was set; the next attempt goes on from here.
    """
    ear = Ear(display)
    facts: dict[str, Any] = {"environment": environment(cell)}
    arrays: dict[str, np.ndarray] = {}
    error = None
    try:
        with listening(ear), workshop.work_folder(cell) as work:
            _prune_and_measure(cell, workshop, ear, display, facts, arrays, save_to, partial or Partial(), work)
    except Exception as failure:  # a plugin may raise anything
        error = Failure(type=type(failure).__name__, message=_message(failure))
        arrays = {}
    finally:
        gc.collect()
    record = Record(
        schema_version=SCHEMA,
        cell=CellFacts.model_validate(cell.model_dump(mode="json")),
        status="failed" if error else "ok",
        error=error,
        notes=dict(ear.notes),
        trace=ear.rows,
        **facts,
    )
    return record, arrays


def _message(failure: Exception) -> str:
    text = " ".join(str(failure).split()) or "no message"
    if isinstance(failure, PrunebenchError | ArithmeticError) or failure.__traceback__ is None:
        return text
    trace = failure.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{text} ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"


def _prune_and_measure(
    cell: Cell,
    workshop: Workshop,
    ear: Ear,
    display: Display,
    facts: dict[str, Any],
    arrays: dict[str, np.ndarray],
    save_to: Path | None,
    partial: Partial,
    work: Path | None,
) -> None:
    """The phases of a cell; ``facts`` and ``arrays`` fill as it goes, so that a failure keeps what came before."""
    display.phase("load")
    method = load_method(cell.plugin, [Path(cell.plugin_file)] if cell.plugin_file else [])
    facts["method"] = MethodFacts(changes=method.changes, takes_data=method.takes_data)
    model, tokenizer = load_model(workshop.model(cell), dtype=cell.dtype, device=cell.device, work=work)
    if not restore_pruned(partial, model, ear, facts, arrays):
        _prune(cell, method, model, tokenizer, workshop, ear, display, facts, arrays, partial)
        if partial.due() or facts["cost"].prune_seconds > WORTH_KEEPING:
            keep_pruned(partial, model, method.changes, ear, facts, arrays)

    facts["perplexity"], facts["zero_shot"] = {}, {}
    measured = Measured(partial, ear, facts, arrays, len(cell.evaluations))
    for evaluation in cell.evaluations[measured.finished :]:
        if evaluation in cell.skipped:
            note("an evaluation that needs the whole model in memory was skipped", evaluation=evaluation.name)
        elif isinstance(evaluation, CellPerplexity):
            display.phase(evaluation.protocol)
            _measure_perplexity(cell, evaluation, workshop, model, tokenizer, facts["perplexity"], arrays)
        elif isinstance(evaluation, CellMeasure):
            display.phase(evaluation.label)
            facts.setdefault("measures", {})[evaluation.label] = measure(evaluation, model, tokenizer)
        else:
            display.phase("zero-shot")
            answers = measured.answers()
            _measure_zero_shot(evaluation, workshop, model, tokenizer, cell.seed, facts["zero_shot"], arrays, answers)
        measured.one_more()
    facts["cost"] = facts["cost"].model_copy(update={"evaluate_seconds": measured.seconds})

    if save_to is not None and method.changes != "nothing":
        display.phase("save")
        facts["saved"] = save_checkpoints(model, tokenizer, save_to, cell.id, parse_pattern(cell.sparsity))


def _prune(
    cell: Cell,
    method: MethodClass,
    model: Any,
    tokenizer: Any,
    workshop: Workshop,
    ear: Ear,
    display: Display,
    facts: dict[str, Any],
    arrays: dict[str, np.ndarray],
    partial: Partial,
) -> None:
    """Prune and check, from where an interrupted attempt stood."""
    pool = workshop.pool(cell, tokenizer)
    data = CalibrationData(pool, nsamples=cell.calibration.nsamples, seqlen=cell.calibration.seqlen, seed=cell.seed)
    if data.nsamples < cell.calibration.nsamples:
        note("calibration text holds fewer windows than nsamples", windows=data.nsamples)
    if any(_same_text(cell, evaluation) for evaluation in cell.evaluations):
        note("calibration and perplexity use the same text")
    sparsity, alongside = _allocated(cell, model, data, display)
    manager = plugin_manager(method, cell.options)
    facts["environment"]["wrappers"] = wrappers_of(manager, method)
    instance = manager.get_plugin(method.name)
    before = Snapshot.of(model, sparsity, method.changes, data=data, method=instance)

    display.phase("prune")
    with PeakMemory(cell.device) as peak:
        clock = Clock()
        with watched() as watch, written_back(model), keeping(Attempt(partial, (ear, data, watch, clock))):
            manager.hook.prune(model=model, data=data, sparsity=sparsity)
        if cell.device == "cuda":
            torch.cuda.synchronize()
        seconds = clock.state()
    ear.notes |= alongside.notes  # what both say, as of experts that saw little, counts once
    amounts = {**alongside.amounts, **ear.amounts}
    facts["cost"] = Cost(prune_seconds=seconds, peak_bytes=peak.bytes, tokens_seen=data.tokens_seen, **amounts)

    display.phase("check")
    facts["sparsity"] = before.verify(model, data=data, method=instance, watch=watch)
    facts["environment"]["weights_digest"] = weights_digest(model)
    if method.changes != "nothing":
        arrays["mask"] = mask_sample(model, sparsity)


def _allocated(cell: Cell, model: Any, data: CalibrationData, display: Display) -> tuple[Sparsity, Ear]:
    """What is asked of the method, and what was heard while it was worked out."""
    pattern, rule, ear = parse_pattern(cell.sparsity), cell.allocation_rule, Ear(display)
    if rule is None:
        return pattern, ear
    display.phase("allocate")
    began = time.perf_counter()
    with listening(ear):
        sparsity = allocate(make_allocation(rule.name, rule.options), model, data, pattern)
        account(allocate_seconds=time.perf_counter() - began)
    return sparsity, ear


def _same_text(cell: Cell, evaluation: CellEvaluation) -> bool:
    return isinstance(evaluation, CellPerplexity) and evaluation.digest == cell.calibration.digest


def _measure_perplexity(
    cell: Cell,
    wanted: CellPerplexity,
    workshop: Workshop,
    model: Any,
    tokenizer: Any,
    results: dict[str, PerplexityFacts],
    arrays: dict[str, np.ndarray],
) -> None:
    measured = perplexity(model, workshop.sequences(cell, wanted, tokenizer), protocol=wanted.protocol)
    results[wanted.protocol] = PerplexityFacts(
        value=measured.value,
        nll=measured.nll,
        tokens=measured.tokens,
        dropped_tokens=measured.dropped_tokens,
        stderr=measured.stderr,
        floor=least_perplexity(wanted.source, wanted.split, wanted.windows, wanted.seqlen),
    )
    arrays[f"perplexity/{wanted.protocol}/losses"] = measured.losses
    arrays[f"perplexity/{wanted.protocol}/counts"] = measured.counts


def _measure_zero_shot(
    wanted: CellZeroShot,
    workshop: Workshop,
    model: Any,
    tokenizer: Any,
    seed: int,
    results: dict[str, Any],
    arrays: dict[str, np.ndarray],
    answers: Answers,
) -> None:
    measured = zero_shot(
        model,
        tokenizer,
        tasks=wanted.tasks,
        limit=wanted.limit,
        num_fewshot=wanted.num_fewshot,
        include_path=wanted.include_path,
        batch_size=wanted.batch_size,
        seed=seed,
        library=workshop.library,
        answers=answers,
    )
    for part, content in measured.outcome.items():
        results.setdefault(part, {}).update(content)
    arrays.update({f"zero_shot/{name}": values for name, values in measured.correct.items()})
