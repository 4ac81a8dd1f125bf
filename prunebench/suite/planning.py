"""Planning: a suite becomes cells, and all that can be refused is refused here, before anything runs."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from prunebench.data.corpora import find_corpus
from prunebench.errors import AllocationError, DeviceError, SuiteError, suggest
from prunebench.evaluation.lm_eval_tasks import TaskLibrary, check_tasks
from prunebench.evaluation.protocols import protocol_name
from prunebench.models.source import find_model, pick_device, pick_dtype
from prunebench.pruning.sparsity import NM, parse_pattern
from prunebench.registry.entry_points import load_evaluation, load_method
from prunebench.registry.method_class import MethodClass, resolve_options
from prunebench.suite.allocations import Rules, found_allocations, try_allocations
from prunebench.suite.cell import Cell, CellCalibration, CellEvaluation, CellMeasure, CellPerplexity, CellZeroShot
from prunebench.suite.published import read_published
from prunebench.suite.schema import (
    UNIFORM,
    Calibration,
    MethodEntry,
    PerplexityEntry,
    PluginEntry,
    Suite,
    ZeroShotEntry,
)


def plan(
    suite: Suite,
    *,
    only: Iterable[str] = (),
    device: str | None = None,
    library: TaskLibrary | None = None,
    plugin_files: Iterable[Path] = (),
) -> tuple[Cell, ...]:
    """Every cell of a suite. All that can be refused is refused here, before anything runs.

    A method that changes nothing (the dense baseline) is planned once for each model; one that takes no data has
    nothing random and is planned for the first of its seeds.

    Args:
        suite: what is asked for.
        only: labels or names of method entries; none means all.
        device: in place of every model's own.
        library: where task names are looked up; pass the same one to the runner, which then need not look again.
        plugin_files: Python files whose methods stand beside the installed ones.

    Raises:
        UsageError: a model, corpus, method, option, task or device that is not there or does not fit.
    """
    entries = _chosen(suite.methods, list(only))
    places = [pick_device(device or model.device) for model in suite.models]
    sources = [
        find_model(m.id, trust_remote_code=m.trust_remote_code) for m in suite.models
    ]  # first, since what is out of reach is told quickly
    files = [file.resolve() for file in plugin_files]
    methods = [load_method(entry.name, files) for entry in entries]
    options = [resolve_options(method, entry.options) for method, entry in zip(methods, entries, strict=True)]
    library = library or TaskLibrary()
    evaluations = tuple(_found_evaluation(entry, library) for entry in suite.evaluations)
    _no_protocol_twice(evaluations)
    rules = found_allocations(asked for entry in entries for asked in entry.allocation or suite.allocation)
    published = read_published(Path(suite.published)) if suite.published else []
    calibrations: dict[Calibration, CellCalibration] = {}
    cells = []
    for model, where, found in zip(suite.models, places, sources, strict=True):
        for entry, method, resolved in zip(entries, methods, options, strict=True):
            if model.name not in (entry.models or [model.name]):
                continue
            if where == "disk" and method.changes == "all":
                others = "" if len(entries) == 1 else ", name its models in its entry (models: [...])"
                raise DeviceError(
                    f"the method {entry.shown!r} changes all of a model at once, which device 'disk' of {model.name!r} "
                    f"never holds in memory: use cpu or cuda{others}, or choose other methods with --only"
                )
            calibration = _calibration_of(entry, suite.calibration)
            if calibration not in calibrations:
                calibrations[calibration] = _found_calibration(calibration)
            for sparsity, allocation, seed in _runs(method, entry, suite, rules):
                cells.append(
                    Cell(
                        model=model.name,
                        source=f"{model.id.partition('@')[0]}@{found.revision}" if found.revision else model.id,
                        revision=found.revision,
                        dtype=pick_dtype(model.dtype, where),
                        device=where,
                        model_digest=found.digest,
                        trust_remote_code=found.trust_remote_code,
                        method=entry.shown,
                        plugin=method.name,
                        distribution=method.distribution,
                        version=method.version,
                        plugin_file=str(method.file) if method.file else None,
                        options=resolved,
                        sparsity=sparsity,
                        allocation=allocation,
                        allocation_rule=rules[allocation][0],
                        seed=seed,
                        calibration=calibrations[calibration],
                        evaluations=evaluations,
                        published=tuple(
                            row.figure
                            for row in published
                            if row.is_for((model.id.partition("@")[0], model.name), (entry.name, entry.shown), sparsity)
                        ),
                    )
                )
    for model, found in zip(suite.models, sources, strict=True):
        try_allocations(rules, model.name, found, {(c.allocation, c.sparsity) for c in cells if c.model == model.name})
    # Entries of one label that differ in what a baseline has not, as sparsities, are one baseline.
    return tuple({cell.id: cell for cell in cells}.values())


def shard_of(cells: tuple[Cell, ...], shard: str | None) -> tuple[Cell, ...]:
    """The cells of one of N shares, the same wherever the suite is planned; together the shares are all cells.

    Args:
        cells: as planned.
        shard: "i/N", i from 1; None for all.

    Raises:
        SuiteError: it is not of that form.
    """
    if shard is None:
        return cells
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise SuiteError(f"--shard {shard!r} is no share: give I/N with I from 1 to N, as 2/8")
    return cells[part - 1 :: parts]


def _chosen(entries: tuple[MethodEntry, ...], only: list[str]) -> list[MethodEntry]:
    names = [name for entry in entries for name in (entry.shown, entry.name)]
    for name in only:
        if name not in names:
            raise SuiteError(f"--only {name!r}: the suite has no such method: {suggest(name, set(names))}")
    return [entry for entry in entries if not only or entry.shown in only or entry.name in only]


def _runs(method: MethodClass, entry: MethodEntry, suite: Suite, rules: Rules) -> list[tuple[str, str, int]]:
    """The (sparsity, allocation, seed) triples of one method entry, each once."""
    seeds = entry.seeds or suite.seeds
    if method.changes == "nothing":
        return [("0", UNIFORM.shown, seed) for seed in (seeds if method.takes_data else seeds[:1])]
    runs = []
    for sparsity in entry.sparsities or suite.sparsities:
        for allocation in entry.allocation or suite.allocation:
            cell, rule = rules[allocation.shown]
            if cell is not None and isinstance(parse_pattern(sparsity), NM):
                raise AllocationError(
                    f"allocation {allocation.shown!r} of {entry.shown!r} cannot share out {sparsity}, which fixes the "
                    "zeros of every group: give n:m an entry of its own, with allocation: uniform"
                )
            random = method.takes_data or rule.needs == "data"
            runs += [(sparsity, allocation.shown, seed) for seed in (seeds if random else seeds[:1])]
    return list(dict.fromkeys(runs))


def _calibration_of(entry: MethodEntry, common: Calibration) -> Calibration:
    if entry.calibration is None:
        return common
    changes = entry.calibration.model_dump(exclude_none=True)
    return common.model_copy(update=changes)


def _found_calibration(calibration: Calibration) -> CellCalibration:
    corpus = find_corpus(calibration.corpus, calibration.split, "calibration")
    return CellCalibration(
        corpus=corpus.name,
        source=calibration.corpus,
        split=calibration.split,
        nsamples=calibration.nsamples,
        seqlen=calibration.seqlen,
        windows=calibration.windows,
        digest=corpus.digest,
    )


def _found_evaluation(entry: PerplexityEntry | ZeroShotEntry | PluginEntry, library: TaskLibrary) -> CellEvaluation:
    if isinstance(entry, PluginEntry):
        found = load_evaluation(entry.name)
        return CellMeasure(
            name=entry.name,
            label=entry.label or entry.name,
            options=resolve_options(found, entry.options),
            distribution=found.distribution,
            version=found.version,
        )
    if isinstance(entry, ZeroShotEntry):
        check_tasks(entry.tasks, entry.include_path, library)
        return CellZeroShot(**entry.model_dump(), digest=_task_files_digest(entry.include_path))
    corpus = find_corpus(entry.corpus, entry.split, "perplexity")
    return CellPerplexity(
        protocol=protocol_name(corpus.name, entry.windows, entry.seqlen),
        corpus=corpus.name,
        source=entry.corpus,
        split=entry.split,
        seqlen=entry.seqlen,
        windows=entry.windows,
        digest=corpus.digest,
    )


def _task_files_digest(include_path: str | None) -> str | None:
    """A digest of the task files themselves; the data they name is lm-eval's business."""
    if include_path is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(include_path).rglob("*") if path.suffix in (".yaml", ".py")):
        digest.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _no_protocol_twice(evaluations: Iterable[CellEvaluation]) -> None:
    names = [
        evaluation.protocol if isinstance(evaluation, CellPerplexity) else evaluation.label
        for evaluation in evaluations
        if not isinstance(evaluation, CellZeroShot)
    ]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SuiteError(f"two evaluations are both {twice[0]!r}: name one corpus file otherwise, or remove one")
