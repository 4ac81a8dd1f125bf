"""The stages of a cell that prune: a method prunes a model, and its tensors are handed over. Here plugins run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from prunebench.allocations import allocate
from prunebench.contract.checks import mask_digests
from prunebench.contract.live import LiveState, watched
from prunebench.models.loading import load_model
from prunebench.pruning import Allocated, CalibrationData, Sparsity, account
from prunebench.pruning.calibration import note_repeated_text
from prunebench.pruning.callbacks import note, use_checkpointer, use_observer
from prunebench.pruning.layers import all_layers, target_of
from prunebench.pruning.nested import HELD, held
from prunebench.pruning.offload import written_back
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager, wrapper_traces, wrappers_of
from prunebench.registry.options import Deferred
from prunebench.runner.checks import take_over_checked
from prunebench.runner.declared import Declared, HandedOver, sparsity_of
from prunebench.runner.effort import EffortMeter
from prunebench.runner.events import Display, EventRecorder
from prunebench.runner.handover import hand_over
from prunebench.runner.memory import PeakMemory
from prunebench.runner.resources import Resources
from prunebench.runner.resume import Clock, ResumeContext
from prunebench.runner.saved_state import SavedState
from prunebench.runner.silent import note_silent
from prunebench.suite.cell import Cell
from prunebench.suite.identity import refuse_changed_code

Tell = Callable[[str, dict[str, str]], None]


def prune_cell(
    cell: Cell,
    resources: Resources,
    events: EventRecorder,
    saved_state: SavedState,
    work: Path,
    tell: Tell,
    before: HandedOver | None = None,
) -> Declared:
    """Run one stage on the model of a cell and hand its tensors over, from where an interrupted attempt stood.

    Args:
        cell: what to prune; what is measured afterwards does not matter here.
        resources: what cells share.
        events: hears what the method says, and shows the progress.
        saved_state: takes what the method keeps on its way.
        work: an empty folder, for the tensors.
        tell: called before the method is imported, with "allocated" and the pattern of each layer where an allocation
            shares zeros out, and with "masks" and a digest of each matrix's mask where another stage came before.
        before: what the stage before handed over; None for the first.

    Returns:
        What there is to say of it.

    Raises:
        Stopped: ``saved_state.stop`` was set; the next attempt goes on from here.
        Exception: whatever a plugin raises, and ``ContractError`` where it broke the contract.
    """
    with use_observer(events):
        return _prune(cell, resources, events, saved_state, work, tell, before)


def _prune(
    cell: Cell,
    resources: Resources,
    events: EventRecorder,
    saved_state: SavedState,
    work: Path,
    tell: Tell,
    before: HandedOver | None,
) -> Declared:
    display, own = events.display, cell.methods[0 if before is None else before.stage + 1]
    display.phase("load")
    source, unused = resources.model(cell), list[str]()
    model, tokenizer = load_model(source, dtype=cell.dtype, device=cell.device, work=work, unused=unused)
    if before is None:
        note_silent(model, tokenizer, source, unused)
    else:
        resources.refuse_changed_model(cell)
        take_over_checked(model, cell, before)
        tell("masks", mask_digests(model))
    data = resources.calibration(cell, tokenizer)
    if data.nsamples < cell.calibration.nsamples:
        note("calibration text holds fewer windows than nsamples", windows=data.nsamples)

    with PeakMemory(cell.device) as peak, EffortMeter(model) as meter:  # code of plugins runs from here on
        files = [Path(own.plugin_file)] if own.plugin_file else []
        if before is None:
            pruner = Deferred(lambda: load_method(own.plugin, files).make(own.options))
            sparsity, alongside = _allocated(cell, model, data, display, pruner)
            if isinstance(sparsity, Allocated):
                tell("allocated", {name: str(pattern) for name, pattern in sparsity.layers.items()})
        else:
            sparsity, alongside = sparsity_of(cell, before.layers), EventRecorder(display)
            sparsity = held(sparsity) if own.mask == HELD else sparsity
        for layer in all_layers(model):  # a pattern that does not fit is told before the method runs
            target_of(layer, sparsity)
        method = load_method(own.plugin, files)
        manager = plugin_manager(method, own.options, map(Path, cell.wrapper_files))
        refuse_changed_code(cell)
        instance = manager.get_plugin(method.name)
        live = LiveState.of(model, data, instance)
        display.phase("prune")
        clock = Clock()
        with (
            watched() as watch,
            written_back(model),
            use_checkpointer(ResumeContext(saved_state, (events, data, watch, clock, meter))),
        ):
            manager.hook.prune(model=model, data=data, sparsity=sparsity)
        if cell.device == "cuda":
            torch.cuda.synchronize()
        seconds = clock.state() + alongside.amounts.get("allocate_seconds", 0.0)
        note_repeated_text(data)

    display.phase("check")
    violations = live.violations(model, data, instance, watch, prunes=method.changes != "nothing")
    for violation in (*violations, *live.tensor_violations(model, method.changes)):
        raise violation.error
    hand_over(model, work)
    events.notes |= alongside.notes  # what both say, as of experts that saw little, counts once
    return Declared(
        changes=method.changes,
        wrappers=tuple(wrappers_of(manager, method)),
        wrapper_traces={name: tuple(rows) for name, rows in wrapper_traces(manager).items()},
        notes=dict(events.notes),
        trace=tuple(events.rows),
        amounts={**alongside.amounts, **events.amounts},
        tokens_seen=data.tokens_seen,
        passes=data.passes,
        effort=meter.counts(),
        prune_seconds=seconds,
        peak_bytes=peak.bytes,
    )


def _allocated(
    cell: Cell, model: Any, data: CalibrationData, display: Display, method: Deferred
) -> tuple[Sparsity, EventRecorder]:
    """What is asked of the method, and what was heard while it was worked out."""
    pattern, rule, events = cell.sparsity, cell.allocation_rule, EventRecorder(display)
    if rule is None:
        return pattern, events
    display.phase("allocate")
    clock = Clock()
    with use_observer(events):
        sparsity = allocate(rule.make(), model, data, pattern, method)
        account(allocate_seconds=clock.state())
    return sparsity, events
