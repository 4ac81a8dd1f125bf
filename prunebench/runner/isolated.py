"""Isolation: each cell is pruned in a fresh process and measured in another, and what kills one costs one cell only."""

import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from prunebench.errors import MethodError, OutputError, first_line
from prunebench.evaluation.interface import is_ours
from prunebench.records.array_files import ARRAYS_LIMIT
from prunebench.records.record import Failure, Forecast, Record
from prunebench.runner.claims import Abandoned, Claim, Standing
from prunebench.runner.declared import Broken, Declared
from prunebench.runner.events import Display, EventRecorder, Silent
from prunebench.runner.forecast import forecast_cells
from prunebench.runner.measure_stage import Measured, ToMeasure
from prunebench.runner.processes.messages import ARRAYS, MALFORMED, Malformed
from prunebench.runner.processes.parent import WAY, Child, Died, Template, Watch, raise_refusal
from prunebench.runner.resources import (
    Resources,
    is_calibrated_by_plugin,
    pool_key,
    remove_left_work,
    runs_code_of_others,
    work_folder,
)
from prunebench.runner.run_cell import Found, Limits, StageFailed, finish, run_stages
from prunebench.runner.saved_state import INTERVAL, SavedState
from prunebench.suite.cell import Cell

MEMORY_LIMIT = "MemoryLimit"
LEFT_RUNNING = "processes that the method left running were ended"
LONGEST_TEXT = 20_000  # characters of an error in a record
ATTEMPTS = 3  # to prepare: what kills a process from outside may strike then too


class Isolated:
    """An ``Executor`` that runs each stage of a cell in a process of its own; at its end as a context all are gone.

    Args:
        limits: what a cell may take.
        every: seconds between two saves of a cell's progress.
        way: how processes come to be, "fork" or "spawn"; see ``prunebench.runner.processes.template``.
    """

    def __init__(self, limits: Limits | None = None, *, every: float = INTERVAL, way: str = WAY) -> None:
        self.limits = limits or Limits()
        self._every, self._way = every, way
        self._pools: tempfile.TemporaryDirectory[str] | None = None
        self._pruning: Template | None = None
        self._measuring: Template | None = None
        self._cells: list[Cell] = []
        self._save_models = False

    def __enter__(self) -> Self:
        return self

    def start(self) -> Self:
        """Start the first process, which imports what is large while this one plans."""
        if self._pruning is None:
            self._pruning = self._started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _started(self) -> Template:
        return Template.start(way=self._way)

    def _end(self) -> None:
        if self._pools is not None:
            self._pools.cleanup()
            self._pools = None
        pruning, measuring = self._pruning, self._measuring
        self._pruning = self._measuring = None
        for template in (measuring, pruning):
            if template is not None:
                template.end()

    @property
    def reader(self) -> Self:
        """Who imports plugins for whoever plans: processes of this executor."""
        return self

    def read(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Ask a process that imports a plugin, and ends; a ``prunebench.registry.reading.Reader``.

        Raises:
            UsageError: the plugin cannot be had, or refuses what it is given.
        """
        if self._pruning is None or not self._pruning.alive:
            self._end()
            self._pruning = self._started()
        request = {"stage": "read", "what": what, "asked": arguments}
        try:
            return self._pruning.ask(request, self._watch(lambda: True))
        except Died as death:
            raise MethodError(f"{arguments.get('name', what)!r} cannot be read: {death}") from None

    def forecast(
        self, cells: Sequence[Cell], output: Path, *, seconds: float, save_models: bool, tell: Callable[[str], None]
    ) -> list[Forecast]:
        """What cells will cost; see ``prunebench.runner.forecast.forecast_cells``.

        Plugins of others run in a process that is thrown away.

        Raises:
            UsageError: a text does not fit.
            OutputError: the process died.
        """
        if not any(runs_code_of_others(cell) for cell in cells):
            resources = Resources(output=output)
            resources.prepare(cells)
            return forecast_cells(cells, resources, seconds=seconds, save_models=save_models, tell=tell)
        request = {"stage": "forecast", "cells": [_plain(cell) for cell in cells], "threads": torch.get_num_threads()}
        request |= {"output": str(output), "seconds": seconds, "save_models": save_models}
        self.start()
        assert self._pruning is not None
        try:
            found = self._pruning.ask(request, self._watch(lambda: True), tell)["forecasts"]
            return [Forecast.model_validate(forecast) for forecast in found]
        except Died as death:
            raise OutputError(f"the process that foretells died: {death}") from None
        except (KeyError, TypeError, ValidationError) as error:
            raise OutputError(f"the process that foretells said what is no forecast: {first_line(error)}") from None

    def prepare(self, cells: Sequence[Cell], output: Path, *, save_models: bool) -> None:
        """Have templates read what cells need; see ``prunebench.runner.run_cell.InProcess.prepare``.

        Raises:
            UsageError: what does not fit.
            OutputError: a template died, or took more than a cell may.
        """
        self._cells, self._save_models = list(cells), save_models
        for left in reversed(range(ATTEMPTS)):
            try:
                self.templates(output, self._watch(lambda: True))
                return self._try_others(cells, output)
            except Died as death:
                self._end()
                if death.kind in (MEMORY_LIMIT, "TimeLimit"):
                    raise OutputError(f"while texts and tasks were read: {death}; raise it in the suite") from None
                if not left:
                    raise OutputError(
                        f"the process that runs cells died {ATTEMPTS} times while it read texts and tasks: {death}; "
                        "see what it wrote above, or try --in-process"
                    ) from None

    def templates(self, output: Path, watch: Watch) -> tuple[Template, Template]:
        """The templates for pruning and for measuring, with what was read for them."""
        pruning, measuring = self._pruning, self._measuring
        if pruning is not None and measuring is not None and pruning.alive and measuring.alive:
            return pruning, measuring
        if measuring is not None or (pruning is not None and not pruning.alive):
            self._end()
        pruning = self._pruning = self._pruning or self._started()
        others = {pool_key(cell): cell for cell in self._cells if is_calibrated_by_plugin(cell)}
        ours = [cell for cell in self._cells if pool_key(cell) not in others]
        pruning.prepare({"cells": [_plain(_for_pruning(cell)) for cell in ours]}, watch)
        if others:
            self._pools = self._pools or tempfile.TemporaryDirectory()  # read again by those that are not forked
            to_read = [_plain(_for_pruning(cell)) for cell in others.values()]
            files = [str(Path(self._pools.name) / f"{number}.safetensors") for number in range(len(to_read))]
            for cell, file in zip(to_read, files, strict=True):
                pruning.ask({"stage": "pool", "cell": cell, "file": file}, watch)
            pruning.prepare({"cells": to_read, "pools": files}, watch)
        measuring = self._measuring = pruning.fork_template(watch)  # which is given what pruning never sees
        to_measure = {"cells": [_plain(cell) for cell in self._cells], "save_models": self._save_models}
        measuring.prepare({**to_measure, "output": str(output.resolve())}, watch)
        return pruning, measuring

    def _try_others(self, cells: Sequence[Cell], output: Path) -> None:
        """Let evaluations of plugins see what they need, each model's in a process that is thrown away."""
        tried: set[str] = set()
        for cell in cells:
            others = [evaluation for evaluation in cell.evaluations if not is_ours(evaluation.facts)]
            if others and cell.model_digest not in tried:
                tried.add(cell.model_digest)
                with work_folder(output.resolve(), cell) as work:
                    stages = _Processes(self, output.resolve(), Silent(), self._watch(lambda: True))
                    stages.try_evaluations(cell.model_copy(update={"evaluations": tuple(others)}), work)

    def run(
        self,
        cell: Cell,
        output: Path,
        display: Display,
        *,
        save_models: bool,
        wanted: Callable[[], bool],
        verify: bool = False,
    ) -> Record:
        """Run a cell; see ``prunebench.runner.run_cell.InProcess.run``."""
        output = output.resolve()
        remove_left_work(output, cell)
        saved_state = SavedState.of(output, cell, interval=self._every)
        with suppress(Died):  # if they follow others that died: their start is not the cell's time
            self.templates(output, self._watch(wanted))
        claim = wanted.standing if isinstance(wanted, Claim) else None
        stages = _Processes(self, output, display, self._watch(wanted), claim)
        try:
            with work_folder(output, cell) as work:
                save_to = output if save_models else None
                record, arrays = run_stages(cell, stages, work, saved_state, save_to, verify=verify)
        except BaseException:  # an interruption: the processes are gone before anybody else may have the cell
            self._end()
            raise
        if record.error is not None and record.error.type == MEMORY_LIMIT:
            saved_state.remove()  # what an attempt that goes on holds besides may be what was too much
        return finish(output, record, arrays, saved_state, wanted)

    def _watch(self, wanted: Callable[[], bool]) -> Watch:
        """Called now and then, ends a cell that takes too much or that nobody waits for."""
        began, (seconds, most) = time.monotonic(), (self.limits.seconds, self.limits.bytes)

        def watch(found: int) -> None:
            if not wanted():
                raise Abandoned
            if seconds is not None and time.monotonic() - began > seconds:
                raise Died("TimeLimit", f"still running after its timeout of {seconds:g} s")
            if most is not None and found > most:
                raise Died(MEMORY_LIMIT, f"{_gib(found)} resident, more than the memory_limit of {_gib(most)}")

        return watch


class _Processes:
    """The stages of one cell, each in a process of its own.

    Args:
        isolated: has the templates.
        output: the results folder, absolute.
        display: shows the progress.
        watch: ends what takes too much.
        claim: on the cell, for the process that saves its model; None where there is none.
    """

    measured = "reloaded"

    def __init__(
        self, isolated: Isolated, output: Path, display: Display, watch: Watch, claim: Standing | None = None
    ) -> None:
        self._isolated, self._output, self._display, self._watch = isolated, output, display, watch
        self._claim = claim

    def prune(self, cell: Cell, saved_state: SavedState, work: Path) -> tuple[Declared, dict[str, str] | None]:
        """Prune in a process that has no evaluation text."""
        log, began = _Log(self._display), time.monotonic()
        pruning, _ = self._templates(log)
        request = {"stage": "prune", "cell": _plain(_for_pruning(cell)), "work": str(work)}
        child, (event, content) = self._run(pruning, request, saved_state, log, {"pruned", "failed"})
        try:
            if event == "failed":
                broken = Broken.model_validate(content)
                raise StageFailed(bounded(broken.failure), broken.notes, broken.trace)
            declared = Declared.model_validate(content)
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
        return declared.model_copy(update=measured), log.layers

    def measure(
        self,
        cell: Cell,
        saved_state: SavedState,
        work: Path,
        file: Path,
        layers: dict[str, str] | None,
        asked: ToMeasure,
    ) -> Found:
        """Measure in a process that has no plugin, or evaluations of plugins in one that has no other evaluation."""
        log = _Log(self._display)
        pruning, measuring = self._templates(log)
        ours = all(is_ours(evaluation.facts) for evaluation in asked.evaluations)
        request = {
            "stage": "measure",
            "prepare": False,
            "cell": _plain(cell),
            "work": str(work),
            "file": str(file),
            "layers": layers,
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
        request = {"stage": "measure", "prepare": True, "cell": _plain(cell), "work": str(work)}
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
            return self._isolated.templates(self._output, self._watch)
        except Died as death:
            raise log.failed(death, ()) from None

    def _run(
        self, template: Template, request: dict[str, Any], saved_state: SavedState, log: "_Log", last: set[str]
    ) -> tuple[Child, tuple[str, Any]]:
        """Run a stage to its end."""
        folder = saved_state.folder and str(saved_state.folder)
        request |= {"threads": torch.get_num_threads(), "saved": [folder, saved_state.belongs, saved_state.interval]}
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
    return found


def _for_pruning(cell: Cell) -> Cell:
    """A cell without what is measured later."""
    return cell.model_copy(update={"evaluations": (), "published": ()})


def _plain(cell: Cell) -> dict[str, Any]:
    return cell.model_dump(mode="json", exclude={"id", "key"})


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"
