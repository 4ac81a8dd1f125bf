"""Pruning a model that the caller has loaded, in place, under the contract that a suite's cells are held to."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import torch

from prunebench.allocations import Allocation, allocate, make_allocation
from prunebench.api.arguments import (
    calibration_data,
    check_files,
    check_model,
    check_pattern,
    check_seed,
    checked,
    described,
    eval_mode,
)
from prunebench.api.dense_copy import DenseCopy
from prunebench.api.notebook import status_for
from prunebench.contract.checks import Snapshot, watched
from prunebench.errors import AllocationError, MethodError, ModelError, UsageError
from prunebench.pruning import CalibrationData, Pattern, PatternError, Sparsity, UnknownMatrixError, Unstructured
from prunebench.pruning.calibration import note_repeated_text
from prunebench.pruning.callbacks import use_observer
from prunebench.pruning.nested import HELD, held
from prunebench.quiet import quiet_hub_libraries
from prunebench.records.record import Cost, SparsityFacts
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import manager_around
from prunebench.registry.method_class import MethodClass, check_class
from prunebench.registry.plugin_files import kebab
from prunebench.runner.events import EventRecorder
from prunebench.runner.memory import PeakMemory
from prunebench.suite.allocations import resolve_allocations
from prunebench.suite.entries import UNIFORM, AllocationEntry
from prunebench.suite.method_entries import StageEntry
from prunebench.suite.stages import refuse_misplaced

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pruned:
    """What came of ``prune``; the model itself was changed in place.

    Args:
        counts: the zeros, counted after pruning: ``counts.reached``, and ``counts.matrices`` by name.
        notes: what the method adjusted, with counts.
        cost: seconds, bytes and calibration tokens, as in a record.
        trace: a thinned curve of an iterative method, a mapping for each step.
    """

    counts: SparsityFacts
    notes: Mapping[str, int]
    cost: Cost
    trace: tuple[Mapping[str, float], ...] = ()

    def __repr__(self) -> str:
        noted = f", notes: {'; '.join(self.notes)}" if self.notes else ""
        return (
            f"Pruned({self.counts.reached:.4f} zeros in {len(self.counts.matrices)} matrices, "
            f"{self.cost.prune_seconds:.2f} s, {self.cost.tokens_seen} tokens{noted})"
        )


def prune(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase | None",
    method: Any,
    sparsity: float | str | Pattern = 0.5,
    *,
    calibration: "str | Path | Mapping[str, Any] | Sequence[str] | Tensor | None" = None,
    nsamples: int | None = None,
    seqlen: int | None = None,
    windows: str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    allocation: "str | Mapping[str, Any] | Allocation" = "uniform",
    plugins: Iterable[str | Path] = (),
    then: Any = None,
    progress: bool | None = None,
) -> Pruned:
    """Prune a loaded model in place, and check that the method kept its contract.

    The same call as in a suite's cell: the same model, text, options and seed give the same weights. A model in train
    mode is pruned in eval mode, and put back.

    Args:
        model: a causal language model of transformers, all of it on one device, in any dtype.
        tokenizer: its tokenizer; may be None where no text is to be tokenised.
        method: the name of an installed method or of one in ``plugins``, or an instance of a class of your own.
        sparsity: a fraction of zeros, as 0.5, or n:m with n kept of every m inputs, as "2:4".
        calibration: the text for methods that use some: the name of a corpus or the path of a text file; a mapping as
            in a suite, ``{"corpus": "c4", "seqlen": 512}``; a list of texts; or token windows, a LongTensor
            (nsamples, seqlen), which are used in the order given.
        nsamples: windows drawn from a text; by default 128.
        seqlen: tokens in a window; by default 2048, or the model's context where that is shorter.
        windows: "stream" (default) cuts windows from the joined documents, "document" takes one from each, "random"
            draws documents of more than ``seqlen`` tokens and a place in each, as the literature does for C4.
        seed: the only source of randomness.
        options: the named method's hyperparameters; an instance has its own.
        allocation: how zeros are shared out among layers: a name, a mapping as in a suite, or an instance of a class
            of your own.
        plugins: Python files whose plugins stand beside the installed ones.
        then: methods that follow, one after another, on the pruned model: each a name, a mapping as in a suite,
            ``{"name": "retrain", "options": {"steps": 512}}``, or an instance. The model as it is now is copied first.
        progress: whether to show progress; by default in notebooks and on terminals.

    Returns:
        Counted zeros, notes and cost.

    Raises:
        UsageError: an argument is wrong; the model is as it was.
        ContractError: the method broke a rule of its contract; the model was changed.
        Exception: whatever the method raises.
    """
    files, seed = check_files(plugins), check_seed(seed)
    method_class, instance = _method_of(method, options, files)
    stages = [(method_class, instance), *(_stage_of(stage, files) for stage in _several(then))]
    refuse_misplaced([stage for stage, _ in stages])
    check_model(model, tokenizer, needs_tokenizer=calibration is not None and not isinstance(calibration, torch.Tensor))
    pattern = check_pattern(sparsity)
    if method_class.changes == "nothing" and len(stages) > 1:  # the control of what follows
        pattern = Unstructured(0.0)
    for stage, _ in stages:
        if not stage.is_for(pattern):
            kinds = ", ".join(stage.patterns)
            raise MethodError(f"the method {stage.name!r} is for {kinds} sparsity, not for {pattern}")
    rule = _allocation_of(allocation, files)
    taking = [stage.name for stage, _ in stages if stage.takes_data]
    if calibration is None and (taking or rule.needs == "data"):
        what = f"the method {taking[0]!r}" if taking else f"the allocation {allocation!r}"
        raise UsageError(f"{what} uses calibration text: pass calibration=, a corpus by name, texts or token windows")
    with quiet_hub_libraries(), status_for(progress) as display, eval_mode(model):
        events = EventRecorder(display)
        with use_observer(events):
            data, dense = None, DenseCopy(model)
            if calibration is not None:
                drawn = {"nsamples": nsamples, "seqlen": seqlen, "windows": windows, "files": files, "teacher": dense}
                data = calibration_data(calibration, model, tokenizer, **drawn, seed=seed)  # type: ignore[arg-type]
            if data is not None and len(stages) > 1:
                dense()
            managers = [(stage, manager_around(made, stage.name, files)) for stage, made in stages]
            return _prune(model, data, managers, rule, pattern, events)


def _prune(
    model: "PreTrainedModel",
    data: CalibrationData | None,
    stages: Sequence[tuple[MethodClass, pluggy.PluginManager]],
    rule: Allocation,
    pattern: Pattern,
    events: EventRecorder,
) -> Pruned:
    """Share out zeros, run every stage, and check after each."""
    first, manager = stages[0]
    try:
        sparsity: Sparsity = allocate(rule, model, data, pattern, manager.get_plugin(first.name))
    except (UnknownMatrixError, PatternError) as error:
        raise ModelError(str(error)) from None
    costs: list[dict[str, Any]] = []
    for number, (method, manager) in enumerate(stages):
        counts, cost = _run_stage(model, data, method, manager, sparsity, follows=number > 0)
        costs.append(cost)
    total = {name: sum(cost[name] for cost in costs) for name in costs[0] if name != "peak_bytes"}
    total["peak_bytes"] = max((cost["peak_bytes"] for cost in costs if cost["peak_bytes"] is not None), default=None)
    if not total["tokens_seen"]:
        total.pop("passes")
    cost_of_all = Cost.model_validate({**events.amounts, **total})
    return Pruned(counts, dict(events.notes), cost_of_all, tuple(events.rows))


def _run_stage(
    model: "PreTrainedModel",
    data: CalibrationData | None,
    method: MethodClass,
    manager: pluggy.PluginManager,
    sparsity: Sparsity,
    *,
    follows: bool,
) -> tuple[SparsityFacts, dict[str, Any]]:
    """Run one stage, and check it; the zeros counted, and what it cost.

    Args:
        model, data: as they are now.
        method, manager: of the stage.
        sparsity: what is asked of all stages.
        follows: whether another stage came before.
    """
    instance, mask = manager.get_plugin(method.name), method.mask if follows else None
    try:
        before = Snapshot.of(model, sparsity, method.changes, data=data, method=instance, mask=mask)
    except (UnknownMatrixError, PatternError) as error:
        raise ModelError(str(error)) from None
    device = str(next(model.parameters()).device)
    if data is not None and follows:
        data.restore([0, 0])
    began = time.perf_counter()
    with PeakMemory(device) as peak, watched() as watch:
        manager.hook.prune(model=model, data=data, sparsity=held(sparsity) if mask == HELD else sparsity)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        if data is not None:
            note_repeated_text(data)
    seconds = time.perf_counter() - began
    counts = before.verify(model, data=data, method=instance, watch=watch)
    tokens, passes = (0, 0.0) if data is None else (data.tokens_seen, data.passes)
    return counts, {"prune_seconds": seconds, "peak_bytes": peak.bytes, "tokens_seen": tokens, "passes": passes}


def _several(then: Any) -> Sequence[Any]:
    """Stages as a sequence: none, one, or several."""
    if then is None:
        return ()
    return then if isinstance(then, list | tuple) else (then,)


def _stage_of(stage: Any, files: tuple[Path, ...]) -> tuple[MethodClass, Any]:
    """A method that follows another: by name, as a mapping of a suite, or an instance."""
    if isinstance(stage, Mapping):
        entry = checked(StageEntry, "then", stage)
        return _method_of(entry.name, entry.options, files)
    return _method_of(stage, None, files)


def _method_of(method: Any, options: Mapping[str, Any] | None, files: tuple[Path, ...]) -> tuple[MethodClass, Any]:
    """A method by name or by instance, as class and instance."""
    if options is not None and not isinstance(options, Mapping):
        raise UsageError(f"options is {described(options)}: give a mapping, as {{'blocksize': 64}}")
    if isinstance(method, str):
        found = load_method(method, files)
        return found, found.make(options or {})
    if isinstance(method, type):
        raise MethodError(f"method is the class {method.__name__}: pass an instance, as {method.__name__}(), or a name")
    name = kebab(type(method).__name__)
    check_class(name, type(method))
    if options:
        raise MethodError(f"options beside an instance: give them to its class, as {type(method).__name__}(...)")
    return MethodClass(name, type(method), "an object", ""), method


def _allocation_of(allocation: Any, files: tuple[Path, ...]) -> Allocation:
    if isinstance(allocation, str | Mapping):
        content = {"name": allocation} if isinstance(allocation, str) else allocation
        entry = checked(AllocationEntry, "allocation", content)
        found, _ = resolve_allocations([entry], files)[entry.title]
        return found.make() if found is not None else make_allocation(UNIFORM.name, {})
    if isinstance(allocation, type) or not callable(allocation) or not hasattr(allocation, "needs"):
        raise AllocationError(
            f"allocation is {described(allocation)}: give a name, as 'owl', a mapping as in a suite, or an instance of "
            "a class that says what it needs"
        )
    rule: Allocation = allocation
    return rule
