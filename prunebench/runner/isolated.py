"""Isolation: each cell is pruned in a fresh process and measured in another, and what kills one costs one cell only."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

import torch
from pydantic import ValidationError

from prunebench.errors import MethodError, OutputError, first_line
from prunebench.evaluation.interface import is_ours
from prunebench.records.record import Forecast, Record
from prunebench.runner.claims import Abandoned, Claim
from prunebench.runner.environment import WHOLE, Share
from prunebench.runner.events import Display, Silent
from prunebench.runner.forecast import forecast_cells
from prunebench.runner.in_process import finish
from prunebench.runner.processes.child import Died, Watch
from prunebench.runner.processes.parent import WAY, Template
from prunebench.runner.resources import (
    Resources,
    is_calibrated_by_plugin,
    pool_key,
    remove_left_work,
    runs_code_of_others,
    work_folder,
)
from prunebench.runner.run_cell import Limits, run_stages
from prunebench.runner.saved_state import INTERVAL, SavedState
from prunebench.runner.stage_processes import StageProcesses, for_pruning, plain
from prunebench.suite.cell import Cell

MEMORY_LIMIT = "MemoryLimit"
ATTEMPTS = 3  # to prepare: what kills a process from outside may strike then too


class Isolated:
    """An ``Executor`` that runs each stage of a cell in a process of its own; at its end as a context all are gone.

    Args:
        limits: what a cell may take.
        every: seconds between two saves of a cell's progress.
        way: how processes come to be, "fork" or "spawn"; see ``prunebench.runner.processes.template``.
        share: what the processes have of the machine.
        stop: once set, by another thread, what runs ends as by Ctrl-C.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        every: float = INTERVAL,
        way: str = WAY,
        share: Share = WHOLE,
        stop: Event | None = None,
    ) -> None:
        self.alone = False
        self.limits, self.share, self._stop = limits or Limits(), share, stop or Event()
        self.every, self._way = every, way
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
        self._pruning.import_everything()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _started(self) -> Template:
        return Template.start(way=self._way, variables=self.share.variables)

    def end(self) -> None:
        """End all processes; those that are needed later are started anew."""
        if self._pools is not None:
            self._pools.cleanup()
            self._pools = None
        pruning, measuring = self._pruning, self._measuring
        self._pruning = self._measuring = None
        for template in (measuring, pruning):
            if template is not None:
                template.end()

    def side_by_side(self, shares: Sequence[Share]) -> "list[Isolated]":
        """Executors with processes of their own, of which this one is the first."""
        self.share = shares[0]
        others = [Isolated(self.limits, every=self.every, way=self._way, share=share) for share in shares[1:]]
        return [self, *others]

    def stop(self) -> None:
        """Have what runs, or will, in another thread end as by Ctrl-C: within seconds, its state kept."""
        self._stop.set()

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
            self.end()
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
        request = {"stage": "forecast", "cells": [plain(cell) for cell in cells], "threads": torch.get_num_threads()}
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

    def expect(self, cells: Sequence[Cell], *, save_models: bool) -> None:
        """Say which cells will run, of which another worker has seen already that they can."""
        self._cells, self._save_models = list(cells), save_models

    def prepare(self, cells: Sequence[Cell], output: Path, *, save_models: bool) -> None:
        """Have templates read what cells need; see ``prunebench.runner.in_process.InProcess.prepare``.

        Raises:
            UsageError: what does not fit.
            OutputError: a template died, or took more than a cell may.
        """
        self.expect(cells, save_models=save_models)
        for left in reversed(range(ATTEMPTS)):
            try:
                self.templates(output, self._watch(lambda: True))
                return self._try_others(cells, output)
            except Died as death:
                self.end()
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
            self.end()
        pruning = self._pruning = self._pruning or self._started()
        others = {pool_key(cell): cell for cell in self._cells if is_calibrated_by_plugin(cell)}
        ours = [cell for cell in self._cells if pool_key(cell) not in others]
        pruning.prepare({"cells": [plain(for_pruning(cell)) for cell in ours]}, watch)
        if others:
            self._pools = self._pools or tempfile.TemporaryDirectory()  # read again by those that are not forked
            to_read = [plain(for_pruning(cell)) for cell in others.values()]
            files = [str(Path(self._pools.name) / f"{number}.safetensors") for number in range(len(to_read))]
            for cell, file in zip(to_read, files, strict=True):
                pruning.ask({"stage": "pool", "cell": cell, "file": file}, watch)
            pruning.prepare({"cells": to_read, "pools": files}, watch)
        measuring = self._measuring = pruning.fork_template(watch)  # which is given what pruning never sees
        to_measure = {"cells": [plain(cell) for cell in self._cells], "save_models": self._save_models}
        measuring.prepare({**to_measure, "output": str(output.resolve())}, watch)
        return pruning, measuring

    def _try_others(self, cells: Sequence[Cell], output: Path) -> None:
        """Let evaluations of plugins see what they need, each model's in a process that is thrown away."""
        tried, find = set[str](), partial(self.templates, output)
        for cell in cells:
            others = [evaluation for evaluation in cell.evaluations if not is_ours(evaluation.facts)]
            if others and cell.model_digest not in tried:
                tried.add(cell.model_digest)
                with work_folder(output.resolve(), cell) as work:
                    stages = StageProcesses(find, Silent(), self._watch(lambda: True))
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
        """Run a cell; see ``prunebench.runner.in_process.InProcess.run``."""
        output = output.resolve()
        remove_left_work(output, cell)
        saved_state = SavedState.of(output, cell, interval=self.every, share=self.share)
        with suppress(Died):  # if they follow others that died: their start is not the cell's time
            self.templates(output, self._watch(wanted))
        claim = wanted.standing if isinstance(wanted, Claim) else None
        stages = StageProcesses(partial(self.templates, output), display, self._watch(wanted), claim, self.share)
        try:
            with work_folder(output, cell) as work:
                save_to = output if save_models else None
                record, arrays = run_stages(cell, stages, work, saved_state, save_to, verify=verify)
        except BaseException:  # an interruption: the processes are gone before anybody else may have the cell
            self.end()
            raise
        if record.error is not None and record.error.type == MEMORY_LIMIT:
            saved_state.remove()  # what an attempt that goes on holds besides may be what was too much
        return finish(output, record, arrays, saved_state, wanted)

    def _watch(self, wanted: Callable[[], bool]) -> Watch:
        """Called now and then, ends a cell that takes too much or that nobody waits for."""
        began, (seconds, most) = time.monotonic(), (self.limits.seconds, self.limits.bytes)

        def watch(found: int) -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            if not wanted():
                raise Abandoned
            if seconds is not None and time.monotonic() - began > seconds:
                raise Died("TimeLimit", f"still running after its timeout of {seconds:g} s")
            if most is not None and found > most:
                raise Died(MEMORY_LIMIT, f"{_gib(found)} resident, more than the memory_limit of {_gib(most)}")

        return watch


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"
