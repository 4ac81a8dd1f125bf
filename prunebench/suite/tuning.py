"""Tuning: trials of a method's options on a text of their own, and the choice that the cells of the suite run with.

A trial is an ordinary cell: a method entry with one combination of its grid, measured on the validation text alone. The
choice is made from the trials' records, so that the suite's own cells are known only once all trials have run.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunebench.errors import SuiteError, suggest
from prunebench.evaluation.interface import Shared
from prunebench.pruning.sparsity import Pattern
from prunebench.records.cell_facts import TuningFacts
from prunebench.records.record import TRIALS_FOLDER, Record
from prunebench.registry.reading import PluginFiles, reader_of
from prunebench.suite.cell import Cell, sparsity_text
from prunebench.suite.evaluation_entries import ValidationText
from prunebench.suite.method_entries import MethodEntry
from prunebench.suite.planning import plan_by_entry
from prunebench.suite.schema import Suite
from prunebench.suite.stages import PlannedMethod

Combination = Mapping[str, Any]
"""A value of each option of a grid."""


@dataclass(frozen=True)
class Candidate:
    """One combination of an entry's grid.

    Args:
        combination: the values.
        method: the entry's method with them.
        trials: its cells, of all models, sparsities, allocations and seeds; of another entry's where that chooses.
    """

    combination: Combination
    method: PlannedMethod
    trials: tuple[Cell, ...]


@dataclass(frozen=True)
class Search:
    """What chooses the options of one entry.

    Args:
        like: the label of the entry whose trials choose them, where these are another's.
        candidates: what was tried.
    """

    like: str | None
    candidates: tuple[Candidate, ...]

    def of(self, model: str) -> list[Cell]:
        """The trials on a model, by its label."""
        return [trial for candidate in self.candidates for trial in candidate.trials if trial.model == model]

    def choose(self, cell: Cell, records: Mapping[str, Record]) -> Cell | None:
        """A cell with the options of the combination that has the lowest mean loss over seeds; of equal ones the first.

        Args:
            cell: of the entry.
            records: of trials, by cell id.

        Returns:
            None where no combination ran well.
        """
        own = self.of(cell.model)
        places = dict.fromkeys((trial.sparsity, trial.allocation) for trial in own)
        nearest = min(places, key=lambda place: _distance(place, cell))
        tried = [
            [records[t.id] for t in candidate.trials if (t.model, t.sparsity, t.allocation) == (cell.model, *nearest)]
            for candidate in self.candidates
        ]
        best, of_best = min(zip(self.candidates, tried, strict=True), key=lambda found: _mean_loss(found[1]))
        if math.isinf(_mean_loss(of_best)):
            return None
        facts = TuningFacts(
            trials=len(tried),
            tokens=tuple(_trained_tokens(record) for of_one in tried for record in of_one),
            seconds=math.fsum(record.cost.prune_seconds or 0 for of_one in tried for record in of_one),
            text=next(iter(of_best[0].perplexity)),
            split=own[0].evaluations[0].facts.get("split"),
            sparsity=str(nearest[0]),
            like=self.like,
            options=dict(best.combination),
        )
        return cell.model_copy(update={"options": best.method.first.options, "then": best.method.then, "tuning": facts})


@dataclass(frozen=True)
class TunedPlan:
    """The cells of a suite, some of which may await trials.

    Args:
        cells: in the suite's order. One that awaits trials has the options of the first combination.
        trials: the trials of all entries that are tuned; none in most suites.
        searches: what chooses the options of a cell, by its id.
    """

    cells: tuple[Cell, ...]
    trials: tuple[Cell, ...]
    searches: Mapping[str, Search]

    def awaits(self, records: Iterable[Record]) -> int:
        """How many trials have no record among these."""
        return len({trial.id for trial in self.trials} - {record.cell.id for record in records})

    def chosen(self, records: Iterable[Record]) -> tuple[tuple[Cell, ...], list[str]]:
        """The cells with the options that their trials chose.

        Args:
            records: of trials; others are passed over. A cell that awaits some stays as it is, its ``tuning`` None.

        Returns:
            The cells; and a line for each model, method and sparsity that is left out, since no combination ran well.
        """
        by_id = {record.cell.id: record for record in records}
        found: dict[str, Cell] = {}
        left_out: dict[str, None] = {}
        for cell in self.cells:
            search = self.searches.get(cell.id)
            awaits = search is not None and any(trial.id not in by_id for trial in search.of(cell.model))
            chosen = cell if search is None or awaits else search.choose(cell, by_id)
            if chosen is not None:
                found[chosen.id] = chosen
            elif search is not None:
                what = f"{cell.method} at {sparsity_text(cell)} on {cell.model} is left out"
                why = f"none of its {len(search.candidates)} trials ran well; see their records in {TRIALS_FOLDER}/"
                left_out[f"{what}: {why}"] = None
        return tuple(found.values()), list(left_out)


def plan_tuned(
    suite: Suite,
    *,
    only: Iterable[str] = (),
    device: str | None = None,
    plugin_files: Iterable[Path] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> TunedPlan:
    """Plan a suite with the trials of every entry that is tuned. All that can be refused is refused here.

    Args:
        suite, only, device, plugin_files, tell: as in ``prunebench.suite.planning.plan``.

    Raises:
        UsageError: as there, of every combination; or the trials do not fit the suite.
    """
    reader = reader_of(plugin_files)
    files = PluginFiles((file.resolve() for file in plugin_files), reader)
    sources = {number: _source(suite, number) for number, entry in enumerate(suite.methods) if entry.tune}
    first = tuple(
        _with(entry, combinations_of(suite.methods[sources[number]])[0]) if number in sources else entry
        for number, entry in enumerate(suite.methods)
    )
    asked = suite.model_copy(update={"methods": first})
    shared = Shared()
    planned = plan_by_entry(asked, only=only, device=device, shared=shared, plugin_files=files, tell=tell)
    cells = tuple({cell.id: cell for _, cell in planned}.values())
    tuned = [number for number in dict.fromkeys(number for number, _ in planned) if number in sources]
    trials = _plan_trials(suite, list(dict.fromkeys(sources[number] for number in tuned)), device, files, shared)
    tried = tuple({cell.id: cell for of_entry in trials.values() for row in of_entry for cell in row}.values())
    _refuse_test_texts(cells, tried)
    searches = {}
    for number in tuned:
        entry, source = suite.methods[number], suite.methods[sources[number]]
        searches[number] = Search(
            like=None if entry is source else source.title,
            candidates=tuple(
                Candidate(combination, PlannedMethod.of(_with(entry, combination), files), tuple(cells))
                for combination, cells in zip(combinations_of(source), trials[sources[number]], strict=True)
            ),
        )
    by_cell = {cell.id: searches[number] for number, cell in planned if number in searches}
    for cell in cells:
        if cell.id in by_cell and not by_cell[cell.id].of(cell.model):
            raise SuiteError(
                f"the method {cell.method!r} is tuned by trials none of which is on the model {cell.model!r} and for a "
                "sparsity that the method is for: change the models or the sparsities of the trials"
            )
    return TunedPlan(cells, tried, by_cell)


def combinations_of(entry: MethodEntry) -> list[Combination]:
    """What is tried for an entry, in the order of its grid: all, or a draw of some that is always the same."""
    assert entry.tune is not None
    grid = entry.tune.grid
    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    drawn = random.Random(0).sample(range(len(every)), entry.tune.trials or len(every))
    return [every[place] for place in sorted(drawn)]


def _source(suite: Suite, number: int) -> int:
    """The position of the entry whose trials choose an entry's options: of itself, or of the one that it names."""
    entry = suite.methods[number]
    assert entry.tune is not None
    if not entry.tune.like:
        return number
    searched = [
        (place, other.title) for place, other in enumerate(suite.methods) if other.tune is not None and other.tune.grid
    ]
    found = [place for place, title in searched if title == entry.tune.like]
    if not found:
        hint = suggest(entry.tune.like, {title for _, title in searched})
        raise SuiteError(f"{entry.title!r} is tuned like {entry.tune.like!r}, which has no grid of its own: {hint}")
    if len(found) > 1:
        raise SuiteError(
            f"{entry.title!r} is tuned like {entry.tune.like!r}, and {len(found)} entries of that label have a grid: "
            "give them labels of their own"
        )
    return found[0]


def _with(entry: MethodEntry, combination: Combination) -> MethodEntry:
    """An entry with the options of a combination; ``STAGE.OPTION`` is one of a method that follows."""
    options: dict[str, dict[str, Any]] = {"": {}, **{stage.name: {} for stage in entry.then}}
    for name, value in combination.items():
        stage, _, option = name.rpartition(".")
        if stage not in options:
            raise SuiteError(
                f"{entry.title!r} is tuned over {name!r}, but no method {stage!r} follows in its entry: "
                f"{suggest(stage, [stage.name for stage in entry.then])}"
            )
        options[stage][option] = value
    then = tuple(s.model_copy(update={"options": {**s.options, **options[s.name]}}) for s in entry.then)
    return entry.model_copy(update={"options": {**entry.options, **options[""]}, "then": then})


def _plan_trials(
    suite: Suite, numbers: Sequence[int], device: str | None, files: PluginFiles, shared: Shared
) -> dict[int, list[list[Cell]]]:
    """The trials of entries.

    Args:
        suite: with the entries.
        numbers: the positions of those that are tried.
        device, files: as in ``plan_tuned``.
        shared: what planning has looked up.

    Returns:
        By the position of an entry: of each combination.
    """
    trials: dict[int, list[list[Cell]]] = {}
    by_text: dict[ValidationText, list[tuple[list[Cell], MethodEntry]]] = {}
    for number in numbers:
        entry = suite.methods[number]
        assert entry.tune is not None
        assert entry.tune.text is not None
        axes = {
            "sparsities": entry.tune.sparsities or entry.sparsities,
            "seeds": entry.tune.seeds or (entry.seeds or suite.seeds)[:1],
        }
        trials[number] = []
        for combination in combinations_of(entry):
            label = " ".join([entry.title, *(f"{name}={value}" for name, value in combination.items())])
            tried = _with(entry, combination).model_copy(update={**axes, "label": label})
            of_one: list[Cell] = []
            trials[number].append(of_one)
            by_text.setdefault(entry.tune.text, []).append((of_one, tried))
    for text, tried_on_it in by_text.items():
        methods = tuple(entry for _, entry in tried_on_it)
        alone = suite.model_copy(update={"methods": methods, "evaluations": (text,), "published": None})
        for position, cell in plan_by_entry(alone, device=device, shared=shared, plugin_files=files):
            tried_on_it[position][0].append(cell)
    return trials


def _refuse_test_texts(cells: Iterable[Cell], trials: Iterable[Cell]) -> None:
    """Refuse to choose on a text that the suite measures on."""
    tests = {evaluation.facts.get("digest") for cell in cells for evaluation in cell.evaluations}
    for facts in (evaluation.facts for cell in trials for evaluation in cell.evaluations):
        if facts["digest"] in tests:
            raise SuiteError(
                f"the validation text {facts['protocol']} is one that the suite measures on: tune on another text, as "
                "another split of the corpus"
            )


def _distance(place: tuple[Pattern, str], cell: Cell) -> tuple[bool, float, bool, float]:
    """How far a sparsity and allocation of trials are from a cell's: of two as near, the sparser goes first."""
    sparsity, allocation = place
    other_kind = sparsity.kind != cell.sparsity.kind
    apart = round(abs(sparsity.ratio - cell.sparsity.ratio), 9)  # 0.5 and 0.9 are as near to 0.7, in floats too
    return allocation != cell.allocation, apart, other_kind, -sparsity.ratio


def _mean_loss(records: Sequence[Record]) -> float:
    """Mean validation loss over seeds, in nats; infinite where a cell failed or its loss is not finite."""
    losses = [facts.nll for record in records if record.status == "ok" for facts in record.perplexity.values()]
    mean = math.fsum(losses) / len(losses) if 0 < len(losses) == len(records) else math.inf
    return mean if math.isfinite(mean) else math.inf


def _trained_tokens(record: Record) -> int | None:
    """Tokens that went backward in a trial; None where they were not counted."""
    counts = [effort.backward_tokens for effort in record.effort]
    return sum(count for count in counts if count is not None) if counts and None not in counts else None
