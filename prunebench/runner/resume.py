"""One attempt at a cell: what it keeps for the next one, with all that belongs to the same moment.

Three things lie in the cell's ``SavedState`` (``prunebench.runner.saved_state``), one after the other: what the method
keeps on its way, the pruned model as it was handed over, and what the evaluations found.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from prunebench.pruning.callbacks import MethodState, note
from prunebench.records.record import SECTIONS
from prunebench.runner.events import EventRecorder
from prunebench.runner.saved_state import SavedState

# Parts of a cell's state: of the method, of what it handed over, of evaluations, and of those of plugins.
PRUNE, PRUNED, MEASURE, OTHERS = "prune", "pruned", "measure", "others"


class Stateful(Protocol):
    """What changes while a method runs, besides its own state: what was noted, how many tokens were taken …"""

    def state(self) -> Any:
        """It now, as JSON."""

    def restore(self, state: Any) -> None:
        """Make it what it was."""


class Clock:
    """Seconds since it was made, and those of earlier attempts up to what they kept."""

    def __init__(self) -> None:
        self._began, self._before = time.perf_counter(), 0.0

    def state(self) -> float:
        """All seconds."""
        return self._before + time.perf_counter() - self._began

    def restore(self, state: float) -> None:
        """Add those of an earlier attempt."""
        self._before = max(self._before, state)


class ResumeContext:
    """The keeper of a method in a cell; see ``prunebench.pruning.callbacks.Checkpointer``.

    Args:
        saved_state: where it is kept.
        carried: goes back to the same moment as the method.
    """

    def __init__(self, saved_state: SavedState, carried: Sequence[Stateful]) -> None:
        self._saved_state, self._carried = saved_state, carried
        self._walks = 0

    def kept(self, name: str) -> MethodState | None:
        """What was kept under the name; all that is carried becomes what it was then."""
        found = self._saved_state.kept(f"{PRUNE}/{name}")
        if found is None:
            return None
        tensors, content = found
        for thing, state in zip(self._carried, content["carried"], strict=True):
            thing.restore(state)
        return tensors, content["facts"]

    def due(self) -> bool:
        """Whether a save is due."""
        return self._saved_state.due()

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Save both; a method runs on without, where the disk is full."""
        carried = [thing.state() for thing in self._carried]
        if not self._saved_state.keep(f"{PRUNE}/{name}", tensors, {"facts": facts, "carried": carried}):
            note("progress could not be kept: the results folder is full or cannot be written")

    def forget(self, name: str) -> None:
        """Remove what was kept under the name."""
        self._saved_state.forget(f"{PRUNE}/{name}")

    def begin_walk(self) -> int:
        """The number of this walk."""
        self._walks += 1
        return self._walks - 1


class EvaluationProgress:
    """What the evaluations of a pruned model found; goes on from an attempt that was interrupted among them.

    Args:
        saved_state: where it is kept.
        events: what was heard.
        facts: those of perplexity, zero-shot tasks and measures are filled in.
        arrays: theirs are filled in.
        evaluations: how many there are in all.
        digest: of the pruned weights.
    """

    def __init__(
        self,
        saved_state: SavedState,
        events: EventRecorder,
        facts: dict[str, Any],
        arrays: dict[str, np.ndarray],
        evaluations: int,
        digest: str,
    ) -> None:
        self._saved_state, self._events, self._facts, self._arrays = saved_state, events, facts, arrays
        self._evaluations, self._digest = evaluations, digest
        self._clock, self.finished = Clock(), 0
        found = saved_state.kept("measured")
        if found is None or found[1]["digest"] != self._digest:
            return
        tensors, content = found
        self.finished = content["finished"]
        facts.update(content["facts"])
        arrays.update(_arrays(tensors))
        self._clock.restore(content["seconds"])
        events.restore(content["ear"])

    @property
    def seconds(self) -> float:
        """Of all attempts."""
        return self._clock.state()

    def record_finished(self) -> None:
        """The next evaluation has finished, and filled in what it found."""
        self.finished += 1
        if self.finished == self._evaluations or not self._saved_state.due():  # after the last the record is written
            return
        found = {part: self._facts[part] for part in (*SECTIONS, "chance")}
        content = {"digest": self._digest, "finished": self.finished, "facts": found, "seconds": self.seconds}
        if self._saved_state.keep("measured", _tensors(self._arrays), {**content, "ear": self._events.state()}):
            self._saved_state.forget("answers")

    def answers(self) -> "StoredAnswers":
        """Those to the tasks of the evaluation that runs now."""
        return StoredAnswers(self._saved_state, [self._digest, self.finished])


class StoredAnswers:
    """The answers of a model to finished tasks; see ``prunebench.evaluation.lm_eval_answers``.

    Args:
        saved_state: where they are kept.
        belongs: which model's and which evaluation's they are.
    """

    def __init__(self, saved_state: SavedState, belongs: list[Any]) -> None:
        self._saved_state, self._belongs = saved_state, belongs
        self._found: dict[str, list[Any]] = {}
        kept = saved_state.kept("answers")
        if kept is not None and kept[1]["belongs"] == belongs:
            self._found = kept[1]["answers"]

    def known(self, task: str) -> list[Any] | None:
        """What an interrupted run was answered."""
        told = self._found.get(task)
        return None if told is None else [tuple(one) if isinstance(one, list) else one for one in told]

    def add(self, task: str, answers: list[Any]) -> None:
        """Keep them, when a save is due."""
        self._found[task] = answers
        if self._saved_state.due():
            self._saved_state.keep("answers", {}, {"belongs": self._belongs, "answers": self._found})


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {f"arrays/{name}": torch.from_numpy(array) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    starts = "arrays/"
    return {name.removeprefix(starts): t.numpy().copy() for name, t in tensors.items() if name.startswith(starts)}
