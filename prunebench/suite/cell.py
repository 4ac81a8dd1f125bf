"""The cell: one unit of a sweep, as plain JSON. Planning turns a suite into cells."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import computed_field

from prunebench.data.corpora import find_corpus
from prunebench.errors import AllocationError, DeviceError, SuiteError, nearest
from prunebench.evaluation.protocols import protocol_name
from prunebench.evaluation.zero_shot import TaskLibrary, check_tasks
from prunebench.models.source import find_model, pick_device, pick_dtype
from prunebench.pruning.sparsity import NM, parse_pattern
from prunebench.records.record import SCHEMA, PublishedFigure
from prunebench.registry.entry_points import MethodClass, load_evaluation, load_method, resolve_options
from prunebench.suite.allocations import CellAllocation, Rules, found_allocations, try_allocations
from prunebench.suite.published import read_published
from prunebench.suite.schema import (
    UNIFORM,
    Calibration,
    MethodEntry,
    PerplexityEntry,
    PluginEntry,
    Strict,
    Suite,
    Windows,
    ZeroShotEntry,
)


class CellCalibration(Strict):
    """Calibration text, found: ``corpus`` is its name, ``source`` where it lies, ``digest`` the SHA-256 of it."""

    corpus: str
    source: str
    split: str | None
    nsamples: int
    seqlen: int
    windows: Windows
    digest: str


class CellPerplexity(Strict):
    """A perplexity to measure; ``protocol`` is its name in records and tables."""

    name: Literal["perplexity"] = "perplexity"
    protocol: str
    corpus: str
    source: str
    split: str | None
    seqlen: int | None
    windows: Literal["stream", "document", "paper"]
    digest: str


class CellZeroShot(Strict):
    """Tasks to measure; ``digest`` is that of the task files found in ``include_path``, if any."""

    name: Literal["zero_shot"] = "zero_shot"
    tasks: tuple[str, ...]
    limit: int | float | None
    num_fewshot: int | None
    include_path: str | None
    batch_size: int
    digest: str | None


class CellMeasure(Strict):
    """A plugin's measurement; ``label`` is its name in records and tables."""

    name: str
    label: str
    options: dict[str, Any]
    distribution: str
    version: str


CellEvaluation = CellPerplexity | CellZeroShot | CellMeasure


class Cell(Strict):
    """One model, pruned by one method to one sparsity from one seed, and how it is measured.

    ``key`` is what tables and comparisons match on; it is stable when a default changes. ``id`` decides whether a
    record is still good: it depends on everything that can change the outcome and on no path.

    ``allocation`` is what tables call how the zeros are shared out, ``allocation_rule`` what does it; None is uniform.
    ``published`` is what others found for the cell. ``trust_remote_code`` lets code that the model brings run.
    """

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
    options: dict[str, Any]
    sparsity: str
    allocation: str
    allocation_rule: CellAllocation | None = None
    seed: int
    calibration: CellCalibration
    evaluations: tuple[CellEvaluation, ...]
    published: tuple[PublishedFigure, ...] = ()
    trust_remote_code: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def key(self) -> tuple[str, str, str, str, int, str]:
        """(model, method, sparsity, allocation, seed, calibration corpus)."""
        return (self.model, self.method, self.sparsity, self.allocation, self.seed, self.calibration.corpus)

    @property
    def skipped(self) -> tuple[CellEvaluation, ...]:
        """Evaluations that are not made, since a model on disk never is in memory as a whole."""
        if self.device != "disk":
            return ()
        return tuple(evaluation for evaluation in self.evaluations if not isinstance(evaluation, CellPerplexity))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """A readable slug and a short hash; the name of the record's file."""
        content = self.model_dump(
            mode="json", exclude={"id", "source", "revision", "device", "plugin_file", "published"}
        )
        for part in (content["calibration"], *content["evaluations"]):
            for name in ("source", "include_path", "batch_size"):
                part.pop(name, None)
        if self.allocation_rule is None:
            del content["allocation_rule"]
        if not self.trust_remote_code:
            del content["trust_remote_code"]
        if self.skipped:  # else its record would pass for one that has them
            content["skipped"] = len(self.skipped)
        text = json.dumps([SCHEMA, content], sort_keys=True, ensure_ascii=False)
        shared = () if self.allocation_rule is None else (self.allocation,)
        words = (self.model, self.method, self.sparsity.replace(":", "of"), *shared, f"s{self.seed}")
        slug = "--".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-.") or "x" for word in words)
        return f"{slug[:96]}--{hashlib.sha256(text.encode()).hexdigest()[:10]}"


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
            raise SuiteError(f"--only {name!r}: the suite has no such method: {nearest(name, set(names))}")
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
