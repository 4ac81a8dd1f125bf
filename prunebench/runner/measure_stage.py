"""The second stage of a cell: a stock model takes the pruned tensors over; zeros are counted, and it is measured.

No method, allocation or wrapper is imported here, nor an evaluation of another package unless it is what runs.
"""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from prunebench.errors import ContractError
from prunebench.evaluation.interface import BoundEvaluation
from prunebench.files import Fence
from prunebench.models.digest import weights_digest
from prunebench.models.loading import load_model
from prunebench.models.saving import save_checkpoints
from prunebench.pruning.callbacks import note, use_observer
from prunebench.records.record import SECTIONS, SavedFacts, SparsityFacts, VerifiedFacts
from prunebench.runner.checks import take_over_checked
from prunebench.runner.declared import HandedOver, Notes, Trace, sparsity_of
from prunebench.runner.events import Display, EventRecorder
from prunebench.runner.handover import take_over
from prunebench.runner.mask_sample import mask_sample
from prunebench.runner.resources import Resources
from prunebench.runner.resume import EvaluationProgress, StoredAnswers
from prunebench.runner.saved_state import SavedState
from prunebench.suite.cell import Cell, CellEvaluation
from prunebench.suite.fields import Strict
from prunebench.suite.identity import refuse_changed_evaluation


class ToMeasure(Strict):
    """What the measuring process is asked for.

    Args:
        evaluations: which to make.
        check: whether zeros are counted and rules checked; else the digest alone.
        fresh_seed: of text on which those evaluations that can are made once more; None for none.
        save_to: the results folder that takes the pruned model; None to let it go.
    """

    evaluations: tuple[CellEvaluation, ...] = ()
    check: bool = True
    fresh_seed: int | None = None
    save_to: Path | None = None


class Measured(Strict):
    """What the measuring process found.

    Args:
        sparsity: zeros, counted on what was loaded; None where only evaluations of plugins ran.
        weights_digest: of the pruned model, the same before and after the evaluations.
        sections: by part of the record, what evaluations found: label → name → value.
        chance: by task, the accuracy of guessing.
        verified: by protocol, what was found on fresh text.
        seconds: duration of the evaluations.
        saved: sizes of the saved model.
        notes: what was noted meanwhile.
        trace: what evaluations traced.
    """

    sparsity: SparsityFacts | None = None
    weights_digest: str | None = None
    sections: dict[str, dict[str, Any]] = Field(default={})
    chance: dict[str, float] = Field(default={})
    verified: dict[str, VerifiedFacts] = Field(default={})
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    saved: SavedFacts | None = None
    notes: Notes = Field(default={})
    trace: Trace = ()


class Measuring:
    """The measuring of one cell; ``facts`` and ``arrays`` fill as it goes, so that a failure keeps what came before.

    Args:
        cell: what is measured.
        resources: what cells share.
        display: shows the progress.
        saved_state: takes what the evaluations found so far.
        work: a folder for what does not fit in memory.
    """

    def __init__(self, cell: Cell, resources: Resources, display: Display, saved_state: SavedState, work: Path) -> None:
        self.cell, self.resources, self.display, self.saved_state = cell, resources, display, saved_state
        self._work, self._events = work, EventRecorder(display)
        self.facts: dict[str, Any] = {part: {} for part in (*SECTIONS, "chance")}
        self.arrays: dict[str, np.ndarray] = {}
        self._sparsity: SparsityFacts | None = None
        self._digest: str | None = None
        self._seconds = 0.0
        self._saved: SavedFacts | None = None
        self._verified: dict[str, VerifiedFacts] = {}

    def run(self, handed: HandedOver, asked: ToMeasure, fence: Fence | None = None) -> None:
        """Load what was handed over, check it, and measure it.

        Args:
            handed: what the last stage handed over.
            asked: what to do.
            fence: asked before the model is saved.

        Raises:
            ContractError: the tensors break a rule, or changed while they were measured.
            Abandoned: the fence said no.
        """
        with use_observer(self._events):
            self._run(handed, asked)
            if asked.save_to is not None and self.cell.changes != "nothing":
                self._save(asked.save_to, fence)

    def outcome(self) -> Measured:
        """What was found so far."""
        return Measured(
            sparsity=self._sparsity,
            weights_digest=self._digest,
            sections={section: self.facts[section] for section in SECTIONS},
            chance=self.facts["chance"],
            verified=self._verified,
            seconds=self._seconds,
            saved=self._saved,
            notes=dict(self._events.notes),
            trace=tuple(self._events.rows),
        )

    def _save(self, save_to: Path, fence: Fence | None) -> None:
        self.display.phase("save")
        model, tokenizer = self._loaded
        self._saved = save_checkpoints(model, tokenizer, save_to, self.cell.id, self.cell.sparsity, fence=fence)

    def _run(self, handed: HandedOver, asked: ToMeasure) -> None:
        cell, evaluations, check = self.cell, asked.evaluations, asked.check
        self.display.phase("check" if check else "load")
        model, tokenizer = load_model(self.resources.model(cell), dtype=cell.dtype, device=cell.device, work=self._work)
        self._loaded = model, tokenizer
        self.resources.refuse_changed_model(cell)
        if check:
            self._sparsity = take_over_checked(model, cell, handed)
            if cell.changes != "nothing":
                self.arrays["mask"] = mask_sample(model, sparsity_of(cell, handed.layers))
        else:
            take_over(model, handed.file)
        self._digest = weights_digest(model)

        progress = EvaluationProgress(
            self.saved_state, self._events, self.facts, self.arrays, len(evaluations), self._digest
        )
        for evaluation in evaluations[progress.finished :]:
            bound = evaluation.bound()
            refuse_changed_evaluation(evaluation.facts)
            if cell.device == "disk" and bound.needs_whole_model:
                note("an evaluation that needs the whole model in memory was skipped", evaluation=evaluation.name)
            else:
                self._evaluate(model, tokenizer, bound, progress.answers())
            progress.record_finished()
        self._seconds = progress.seconds
        if asked.fresh_seed is not None and cell.changes != "nothing":
            for evaluation in evaluations:
                self._verify(model, tokenizer, evaluation.bound(), asked.fresh_seed)
        if check and weights_digest(model) != self._digest:
            raise ContractError("the weights changed while they were measured")

    def _evaluate(self, model: Any, tokenizer: Any, evaluation: BoundEvaluation, saved: StoredAnswers) -> None:
        self.display.phase(evaluation.title)
        available = {**self.resources.available(self.cell), "saved": saved}
        result = evaluation.measure(model, tokenizer, **available)
        self.facts["chance"] |= result.chance
        section = self.facts[evaluation.section]
        for name, values in result.values.items():
            section.setdefault(name, {}).update(values)
        self.arrays.update({f"{evaluation.section}/{name}": values for name, values in result.arrays.items()})

    def _verify(self, model: Any, tokenizer: Any, evaluation: BoundEvaluation, seed: int) -> None:
        """Measure once more on text that did not exist when the model was pruned."""
        if not evaluation.verifies:
            return
        if self.cell.device == "disk":
            return note("not verified: the dense model is never in memory as a whole", evaluation=evaluation.title)
        self.display.phase(f"{evaluation.title}, fresh text")
        head = f"{evaluation.section}/"
        arrays = {name.removeprefix(head): array for name, array in self.arrays.items() if name.startswith(head)}
        available = {**self.resources.available(self.cell), "fresh_seed": seed, "arrays": arrays}
        for name, facts in evaluation.verify(model, tokenizer, **available).items():
            self._verified[name] = found = VerifiedFacts.model_validate(facts)
            if not found.agrees:
                note("the perplexity is not confirmed on text that was made after pruning", protocol=name)
