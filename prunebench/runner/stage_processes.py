"""The stages of one cell, each in a process of its own: what is asked of it, and what is believed of its answer."""

import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from prunebench.errors import OutputError, first_line
from prunebench.evaluation.interface import is_ours
from prunebench.records.array_files import ARRAYS_LIMIT, is_row
from prunebench.records.record import Failure
from prunebench.runner.claims import Standing
from prunebench.runner.declared import Broken, Declared, HandedOver
from prunebench.runner.environment import WHOLE, Share
from prunebench.runner.events import Display, EventRecorder
from prunebench.runner.measure_stage import Measured, ToMeasure
from prunebench.runner.openmp import waiting
from prunebench.runner.processes.child import Child, Died, Watch, raise_refusal
from prunebench.runner.processes.messages import ARRAYS, MALFORMED, Malformed
from prunebench.runner.processes.parent import Template
from prunebench.runner.pruning_stages import handed_by
from prunebench.runner.run_cell import Found, StageFailed
from prunebench.runner.saved_state import SavedState
from prunebench.suite.cell import Cell

LEFT_RUNNING = "processes that the method left running were ended"
LONGEST_TEXT = 20_000  # characters of an error in a record

Templates = Callable[[Watch], tuple[Template, Template]]
"""Gives the templates for pruning and for measuring, started anew where one died."""


class StageProcesses:
    """The stages of one cell, each in a process of its own.

    Args:
        templates: those for pruning and for measuring.
        display: shows the progress.
        watch: ends what takes too much.
        claim: on the cell, for the process that saves its model; None where there is none.
        share: what these processes have of the machine.
    """

    measured = "reloaded"

    def __init__(
        self,
        templates: Templates,
        display: Display,
        watch: Watch,
        claim: Standing | None = None,
        share: Share = WHOLE,
    ) -> None:
        self._find, self._display, self._watch, self.share = templates, display, watch, share
        self.waiting = waiting()
        self._claim = claim

    def prune(
        self, cell: Cell, saved_state: SavedState, work: Path, before: HandedOver | None
    ) -> tuple[Declared, HandedOver]:
        """Run a stage that prunes in a process that has no evaluation text."""
        log, began = _Log(self._display), time.monotonic()
        pruning, _ = self._templates(log)
        request = {"stage": "prune", "cell": plain(for_pruning(cell)), "work": str(work), "before": None}
        if before is not None:
            request["before"] = before.model_dump(mode="json")
        child, (event, content) = self._run(pruning, request, saved_state, log, {"pruned", "failed"})
        try:
            if event == "failed":
                broken = Broken.model_validate(content)
                raise StageFailed(bounded(broken.failure), broken.notes, broken.trace)
            declared = Declared.model_validate(content)
            handed = handed_by(before, work, log.layers, log.masks)
        except ValidationError as error:
            wrong = Died(MALFORMED, f"the process sent an outcome that is none: {first_line(error)}")
            raise log.failed(wrong, child.errors.said) from None
        seconds = log.seconds_of("allocate") + log.seconds_of("prune")
        measured: dict[str, Any] = {"prune_seconds": max(declared.prune_seconds, seconds)}
        if cell.device != "cuda":  # whose memory only the process itself can tell of
            measured["peak_bytes"] = child.peak_bytes
        measured["amounts"] = {**declared.amounts, "process_seconds": time.monotonic() - began}
        if child.orphans:
            measured["notes"] = {**declared.notes, LEFT_RUNNING: child.orphans}
        return declared.model_copy(update=measured), handed

    def measure(
        self,
        cell: Cell,
        saved_state: SavedState,
        work: Path,
        handed: HandedOver,
        asked: ToMeasure,
    ) -> Found:
        """Measure in a process that has no plugin, or evaluations of plugins in one that has no other evaluation."""
        log = _Log(self._display)
        pruning, measuring = self._templates(log)
        ours = all(is_ours(evaluation.facts) for evaluation in asked.evaluations)
        request = {
            "stage": "measure",
            "prepare": False,
            "cell": plain(cell),
            "work": str(work),
            "handed": handed.model_dump(mode="json"),
            "asked": asked.model_dump(mode="json"),
            "claim": self._claim and {"path": str(self._claim.path), "content": self._claim.content},
        }
        child, (_, content) = self._run(measuring if ours else pruning, request, saved_state, log, {"measured"})
        try:
            found = Measured.model_validate(content["found"])
            failure = None if content["failed"] is None else bounded(Failure.model_validate(content["failed"]))
            arrays = _read_arrays(work / ARRAYS)
            return found, {name: arrays[name] for name in content["arrays"]}, failure
        except (KeyError, TypeError, ValidationError, OSError, SafetensorError) as error:
            wrong = Died(MALFORMED, f"the process sent an outcome that is none: {first_line(error)}")
            raise log.failed(wrong, child.errors.said) from None

    def try_evaluations(self, cell: Cell, work: Path) -> None:
        """Let evaluations of plugins read what they need, and end.

        Raises:
            UsageError: it is not there.
        """
        log = _Log(self._display)
        request = {"stage": "measure", "prepare": True, "cell": plain(cell), "work": str(work)}
        pruning, _ = self._templates(log)
        try:
            _, (event, content) = self._run(pruning, request, SavedState(), log, {"measured", "refused"})
        except StageFailed as failed:
            raise OutputError(f"an evaluation failed while it read what it needs: {failed.failure.message}") from None
        if event == "refused":
            raise_refusal(*content)
        if content.get("failed"):
            raise OutputError(f"an evaluation failed while it read what it needs: {content['failed']['message'][:500]}")

    def _templates(self, log: "_Log") -> tuple[Template, Template]:
        try:
            return self._find(self._watch)
        except Died as death:
            raise log.failed(death, ()) from None

    def _run(
        self, template: Template, request: dict[str, Any], saved_state: SavedState, log: "_Log", last: set[str]
    ) -> tuple[Child, tuple[str, Any]]:
        """Run a stage to its end."""
        folder = saved_state.folder and str(saved_state.folder)
        request |= {"threads": self.share.thread_count, "saved": [folder, saved_state.belongs, saved_state.interval]}
        said: Sequence[str] = ()
        try:
            child = template.fork(request, self._watch)
            said = child.errors.said
            event, (content,) = child.attend(log.hear, last, self._watch)
        except Died as death:
            raise log.failed(death, said) from None
        return child, (event, content)


class _Log:
    """What is heard of a stage: shown, and kept for the record of one that dies."""

    def __init__(self, display: Display) -> None:
        self._display, self._events = display, EventRecorder(display)
        self._phase, self._step = "load", ""
        self._began: dict[str, float] = {}
        self.layers: dict[str, str] | None = None
        self.masks: dict[str, str] | None = None

    def hear(self, event: str, content: Any) -> None:
        """Take one event."""
        match event:
            case "phase":
                self._phase, self._step = content[0], ""
                self._began.setdefault(self._phase, time.monotonic())
                self._display.phase(self._phase)
            case "step":
                label, done, total = content
                self._step = f", {label} {done}" + ("" if total is None else f" of {total}")
                self._events.step(label, done, total)
            case "note":
                self._events.note(*content)
            case "trace":
                self._events.trace(*content)
            case "allocated" if self.layers is None and "prune" not in self._began:
                (self.layers,) = content
            case "masks" if self.masks is None and "prune" not in self._began:
                (self.masks,) = content
            case _:
                raise Malformed(f"the message {event!r} where it has no place")

    def seconds_of(self, phase: str) -> float:
        """From the beginning of a phase to that of the next, by the clock of this process."""
        if phase not in self._began:
            return 0.0
        later = [began for began in self._began.values() if began > self._began[phase]]
        return min(later, default=time.monotonic()) - self._began[phase]

    def failed(self, death: Died, said: Sequence[str]) -> StageFailed:
        """What there is to say of a stage whose process died."""
        progress = f"{self._phase}{self._step}"
        failure = Failure(
            type=death.kind,
            message=f"{death} ({progress})",
            signal=death.signal,
            progress=progress,
            stderr="\n".join(said),
        )
        return StageFailed(failure, dict(self._events.notes), self._events.rows)


def bounded(failure: Failure) -> Failure:
    """A failure whose texts are no longer than a record should hold."""
    return failure.model_copy(
        update={name: text[:LONGEST_TEXT] for name, text in failure.model_dump().items() if isinstance(text, str)}
    )


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    if not stat.S_ISREG((status := file.lstat()).st_mode) or status.st_size > ARRAYS_LIMIT:
        raise OSError(f"{file.name} is no regular file of at most {ARRAYS_LIMIT:,} bytes")
    found: dict[str, np.ndarray] = load_file(file)
    for name, array in found.items():
        if not is_row(array):
            raise OSError(f"the array {name!r} is no row of numbers")
    return found


def for_pruning(cell: Cell) -> Cell:
    """A cell without what is measured later."""
    return cell.model_copy(update={"evaluations": (), "published": (), "tuning": None})


def plain(cell: Cell) -> dict[str, Any]:
    return cell.model_dump(mode="json", exclude={"id", "key"})
