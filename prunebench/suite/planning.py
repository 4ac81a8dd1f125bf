"""Planning: a suite becomes cells, and all that can be refused is refused here, before anything runs."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from prunebench.data.corpora import corpus_file, find_corpus
from prunebench.errors import AllocationError, DeviceError, ModelError, SuiteError
from prunebench.evaluation.describe import EvaluationDescription, describe_evaluation
from prunebench.evaluation.interface import Shared
from prunebench.models.skeleton_checks import refuse_attention, refuse_headless, refuse_unknown_matrices
from prunebench.models.source import ModelSource, find_model, is_quantized, pick_device, pick_dtype
from prunebench.pruning import REVISION
from prunebench.pruning.sparsity import NM, Pattern, Unstructured
from prunebench.records.cell_facts import SuiteFacts
from prunebench.registry.entry_points import wrapper_codes
from prunebench.registry.plugin_files import names_in
from prunebench.registry.reading import PluginFiles, reader_of
from prunebench.suite.allocations import Rules, resolve_allocations, try_allocations
from prunebench.suite.cell import Cell, CellCalibration, CellEvaluation
from prunebench.suite.entries import UNIFORM, Calibration
from prunebench.suite.method_entries import MethodEntry
from prunebench.suite.outline import chosen_entries
from prunebench.suite.published import published_disagreements, read_published
from prunebench.suite.schema import Suite
from prunebench.suite.stages import PlannedMethod


def plan(
    suite: Suite,
    *,
    only: Iterable[str] = (),
    device: str | None = None,
    shared: Shared | None = None,
    plugin_files: Iterable[Path] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Cell, ...]:
    """Every cell of a suite. All that can be refused is refused here, before anything runs.

    A method that changes nothing (the dense baseline) is planned once for each model; one that takes no data has
    nothing random and is planned for the first of its seeds. Tuning is no part of it: see ``suite.tuning.plan_tuned``.

    Args:
        suite: what is asked for.
        only: labels or names of method entries; none means all.
        device: in place of every model's own.
        shared: what evaluations look up; pass the same one to the runner, which then need not look again.
        plugin_files: Python files whose plugins, of every kind, stand beside the installed ones; ``PluginFiles``
            also say who imports plugins of others.
        tell: called with a line for each entry whose method is not for some of its sparsities, which are skipped, and
            for each dense model whose published figures disagree.

    Raises:
        UsageError: a model, corpus, method, option, task or device that is not there or does not fit.
    """
    planned = plan_by_entry(suite, only=only, device=device, shared=shared, plugin_files=plugin_files, tell=tell)
    # Entries of one label that differ in what a baseline has not, as sparsities, are one baseline.
    return tuple({cell.id: cell for _, cell in planned}.values())


def plan_by_entry(
    suite: Suite,
    *,
    only: Iterable[str] = (),
    device: str | None = None,
    shared: Shared | None = None,
    plugin_files: Iterable[Path] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> list[tuple[int, Cell]]:
    """Every cell of a suite, as ``plan``, with the position of its entry among the suite's methods.

    A baseline's cell comes once for each entry that asks for it.
    """
    numbered = chosen_entries(suite.methods, only)
    entries = list(numbered.values())
    places = [pick_device(device or model.device) for model in suite.models]
    sources = [
        find_model(
            m.id,
            trust_remote_code=m.trust_remote_code,
            tokenizer=m.tokenizer,
            attn_implementation=m.attn_implementation,
        )
        for m in suite.models
    ]  # first, since what is out of reach is told quickly
    for source in sources:
        refuse_headless(source)
        refuse_attention(source)
    shared = shared or Shared()
    for model, source in zip(suite.models, sources, strict=True):
        shared.get(("matrices", source.digest), partial(refuse_unknown_matrices, source, model.name))
    _refuse_quantized_on_disk(suite, places, sources)
    reader = reader_of(plugin_files)
    files = PluginFiles((file.resolve() for file in plugin_files), reader)
    wrapper_files = tuple(str(file) for file in files if "wrapper" in names_in(file, reader))
    methods, wrappers = [PlannedMethod.of(entry, files) for entry in entries], wrapper_codes(files)
    found_evaluations = [
        describe_evaluation(entry.name, entry.label, entry.given_options, shared, files) for entry in suite.evaluations
    ]
    _refuse_one_label_twice(found_evaluations)
    described = [
        (entry, CellEvaluation.model_validate(found.facts))
        for entry, found in zip(suite.evaluations, found_evaluations, strict=True)
    ]
    rules = resolve_allocations((asked for entry in entries for asked in entry.allocation or suite.allocation), files)
    published = [row for file in suite.published_files for row in read_published(Path(file))]
    for line in published_disagreements(published):
        tell(f"published figures disagree: {line}")
    for entry, method in zip(entries, methods, strict=True):
        if skipped := [str(s) for s in entry.sparsities or suite.sparsities if not method.runs_at(s)]:
            tell(f"{entry.title} is for {', '.join(method.patterns)} sparsity: skipped at {', '.join(skipped)}")
    calibrations: dict[Calibration, CellCalibration] = {}
    planned: list[tuple[int, Cell]] = []
    for model, where, found in zip(suite.models, places, sources, strict=True):
        for (number, entry), method in zip(numbered.items(), methods, strict=True):
            if model.name not in (entry.models or [model.name]):
                continue
            method.refuse_device(where, model.name, alone=len(entries) == 1)
            calibration = _calibration_of(entry, suite.calibration)
            if calibration not in calibrations:
                calibrations[calibration] = _found_calibration(calibration, files)
            names = (model.id.partition("@")[0], model.name), (entry.title,)
            for sparsity, allocation, seed in _runs(method, entry, suite, rules):
                evaluations = tuple(each for asked, each in described if asked.is_for(model.name, sparsity))
                if not evaluations:
                    raise SuiteError(
                        f"no evaluation is for {model.name!r} at {sparsity}: name {sparsity} in 'sparsities' of one"
                    )
                cell = Cell(
                    model=model.name,
                    suite=SuiteFacts(name=suite.name, description=suite.description),
                    source=f"{model.id.partition('@')[0]}@{found.revision}" if found.revision else model.id,
                    revision=found.revision,
                    dtype=pick_dtype(model.dtype, where),
                    device=where,
                    model_digest=found.digest,
                    trust_remote_code=found.trust_remote_code,
                    tokenizer=model.tokenizer,
                    attn_implementation=model.attn_implementation,
                    chat_template=_chat_template(model.name, found, calibrations[calibration], evaluations),
                    method=entry.title,
                    plugin=method.first.name,
                    distribution=method.first.distribution,
                    version=method.first.version,
                    plugin_file=str(method.first.file) if method.first.file else None,
                    wrapper_files=wrapper_files,
                    changes=method.changes,
                    takes_data=method.takes_data,
                    brought=method.first.brought,
                    cites=method.cites,
                    code=method.codes[0],
                    options=method.first.options,
                    then=method.then,
                    sparsity=sparsity,
                    allocation=allocation,
                    allocation_rule=rules[allocation][0],
                    seed=seed,
                    calibration=calibrations[calibration],
                    evaluations=evaluations,
                    wrappers=wrappers or None,
                    toolkit=REVISION,
                    published=tuple(row.figure for row in published if row.is_for(*names, str(sparsity))),
                )
                planned.append((number, cell))
    for model, found in zip(suite.models, sources, strict=True):
        trials = {(c.allocation, c.sparsity) for _, c in planned if c.model == model.name}
        try_allocations(rules, model.name, found, trials, files)
    if not planned:
        raise SuiteError("there is no cell to run: no method is for a sparsity that it is asked for")
    return planned


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


def _runs(method: PlannedMethod, entry: MethodEntry, suite: Suite, rules: Rules) -> list[tuple[Pattern, str, int]]:
    """The (sparsity, allocation, seed) triples of one method entry, each once."""
    seeds = entry.seeds or suite.seeds
    if method.is_baseline:
        return [(Unstructured(0.0), UNIFORM.title, seed) for seed in (seeds if method.takes_data else seeds[:1])]
    runs = []
    for sparsity in [s for s in entry.sparsities or suite.sparsities if method.runs_at(s)]:
        for allocation in entry.allocation or suite.allocation:
            cell, needs = rules[allocation.title]
            if cell is not None and isinstance(sparsity, NM):
                raise AllocationError(
                    f"allocation {allocation.title!r} of {entry.title!r} cannot share out {sparsity}, which fixes the "
                    "zeros of every group: give n:m an entry of its own, with allocation: uniform"
                )
            random = method.takes_data or needs == "data"
            runs += [(sparsity, allocation.title, seed) for seed in (seeds if random else seeds[:1])]
    return list(dict.fromkeys(runs))


def _refuse_quantized_on_disk(suite: Suite, devices: Iterable[str], sources: Iterable[ModelSource]) -> None:
    for model, device, source in zip(suite.models, devices, sources, strict=True):
        if device == "disk" and is_quantized(source):
            raise DeviceError(
                f"model {model.name!r} is quantised, and device 'disk' reads weights as they are stored, without their "
                "scales: use cpu or cuda, which turn them back into numbers, or name an unquantised checkpoint"
            )


def _calibration_of(entry: MethodEntry, common: Calibration) -> Calibration:
    if entry.calibration is None:
        return common
    changes = entry.calibration.model_dump(exclude_none=True)
    if "corpus" in changes:
        changes = {"field": None, "noise": None, **changes}
    return common.model_copy(update=changes)


def _found_calibration(calibration: Calibration, files: PluginFiles) -> CellCalibration:
    corpus = find_corpus(
        calibration.corpus, calibration.split, "calibration", files, calibration.field, calibration.noise
    )
    file = corpus_file(calibration.corpus, files)
    return CellCalibration(
        corpus=corpus.name,
        source=calibration.corpus,
        split=calibration.split,
        nsamples=calibration.nsamples,
        seqlen=calibration.seqlen,
        windows=calibration.windows,
        digest=corpus.digest,
        plugin_file=str(file) if file else None,
        made=bool(corpus.wants) and not corpus.templated,
        code=corpus.code,
        field=calibration.field,
        noise=calibration.noise,
        apply_chat_template=corpus.templated,
    )


def _chat_template(
    name: str, found: ModelSource, calibration: CellCalibration, evaluations: tuple[CellEvaluation, ...]
) -> str | None:
    """The digest of a model's chat template, where one of the texts or tasks is to be written by it.

    Raises:
        ModelError: it has none.
    """
    users = [calibration.source] if calibration.apply_chat_template else []
    users += [each.facts.get("protocol", each.name) for each in evaluations if each.facts.get("apply_chat_template")]
    if users and found.chat_template is None:
        raise ModelError(
            f"{users[0]} asks for a chat template, and the tokenizer of the model {name!r} has none: use the chat "
            "version of the model, put a chat_template.jinja into its folder, or ask for none (of a text with "
            "another 'field')"
        )
    return found.chat_template if users else None


def _refuse_one_label_twice(evaluations: Iterable[EvaluationDescription]) -> None:
    labels = [evaluation.label for evaluation in evaluations if evaluation.label is not None]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise SuiteError(f"two evaluations are both {twice[0]!r}: name one corpus file otherwise, or remove one")
