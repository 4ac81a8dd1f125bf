"""The stages of a cell that prune, one after another: the tensors handed over are the border, and where to resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from prunebench.errors import ContractError
from prunebench.runner.declared import Declared, HandedOver
from prunebench.runner.handover import FILE
from prunebench.runner.resume import MEASURE, OTHERS, PRUNE, PRUNED
from prunebench.runner.saved_state import SavedState
from prunebench.suite.cell import Cell

WORTH_KEEPING = 10.0  # seconds of pruning that the pruned model is kept for until the next stage is done with it


class Pruner(Protocol):
    """Who runs a stage that prunes; see ``prunebench.runner.run_cell.Stages``."""

    def prune(
        self, cell: Cell, saved_state: SavedState, work: Path, before: HandedOver | None
    ) -> tuple[Declared, HandedOver]:
        """What the next method says, and what it hands over."""


class PruningStages:
    """The stages of one cell that prune.

    Args:
        cell: what runs.
        stages: who runs a stage.
        work: a folder, in which each stage has its own.
        saved_state: what an interrupted attempt left, and takes what this one leaves.
        hear: called with what each stage says, in their order.
    """

    def __init__(
        self, cell: Cell, stages: Pruner, work: Path, saved_state: SavedState, hear: Callable[[Declared], None]
    ) -> None:
        self._cell, self._stages, self._work, self._saved_state = cell, stages, work, saved_state
        self._hear = hear

    def run(self) -> tuple[list[Declared], HandedOver]:
        """Run them, from the last one to whose end an earlier attempt came.

        Returns:
            What each said, and what the last one handed over.
        """
        said, handed = self._restored()
        for declared in said:
            self._hear(declared)
        while handed is None or handed.stage + 1 < len(self._cell.methods):
            handed = self._prune(said, handed)
            self._hear(said[-1])
        return said, handed

    def _restored(self) -> tuple[list[Declared], HandedOver | None]:
        """What earlier attempts handed over last, if it was kept, and what its stages said."""
        for stage in reversed(range(len(self._cell.methods))):
            found = self._saved_state.find(of_stage(PRUNED, stage))
            if found is None or found[0] is None:
                continue
            self._saved_state.part(of_stage(PRUNE, stage)).remove()
            try:
                said = [Declared.model_validate(content) for content in found[1]["declared"]]
                handed = HandedOver.model_validate({**found[1]["handed"], "file": found[0]})
                if len(said) == stage + 1 and handed.stage == stage:
                    return said, handed
            except (KeyError, TypeError, ValidationError):
                pass
            self._saved_state.forget(of_stage(PRUNED, stage))
        return [], None

    def _prune(self, said: list[Declared], before: HandedOver | None) -> HandedOver:
        """Run one stage that prunes.

        Args:
            said: what the stages before said; what this one says is added.
            before: what the stage before handed over.
        """
        stage = len(said)
        name, kept_as = of_stage(PRUNE, stage), of_stage(PRUNED, stage)
        work = self._work / name
        work.mkdir()
        try:
            declared, handed = self._stages.prune(self._cell, self._saved_state.part(name), work, before)
        finally:  # what lies there now was not measured, but at most forged by the method
            for later in range(stage, len(self._cell.methods)):
                self._saved_state.discard(of_stage(PRUNED, later), (MEASURE, OTHERS))
        planned = self._cell.methods[stage].changes
        if planned not in (None, declared.changes):
            raise ContractError(
                f"the class says changes = {declared.changes!r}, and said {planned!r} when it was planned"
            )
        said.append(declared)
        if declared.prune_seconds > min(WORTH_KEEPING, self._saved_state.interval):
            content: dict[str, Any] = {"declared": [each.model_dump(mode="json") for each in said]}
            content["handed"] = handed.model_dump(mode="json")
            handed = handed.model_copy(update={"file": self._saved_state.adopt(kept_as, handed.file, content)})
            self._saved_state.part(name).remove()
            if stage:
                self._saved_state.forget(of_stage(PRUNED, stage - 1))
        return handed


def of_stage(name: str, stage: int) -> str:
    """The name of what belongs to one of the stages that prune."""
    return f"{name}-{stage}" if stage else name


def handed_by(
    before: HandedOver | None, work: Path, layers: dict[str, str] | None, masks: dict[str, str] | None
) -> HandedOver:
    """What the stage after ``before`` handed over in ``work``.

    Args:
        before: what its predecessor handed over; None for the first stage.
        work: where its tensors are.
        layers: the layers' patterns that an allocation told, in the first stage.
        masks: digests of the masks that it found.
    """
    if before is None:
        return HandedOver(file=work / FILE, layers=layers)
    return HandedOver(file=work / FILE, stage=before.stage + 1, layers=before.layers, masks=masks)
