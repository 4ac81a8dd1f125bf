"""Cells in this process, for debugging: what a method leaves behind meets what is measured, and the next cell."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import NoReturn, Self

import numpy as np

from prunebench.errors import EngineError
from prunebench.evaluation.interface import Shared
from prunebench.files import Fence
from prunebench.records.folder_store import FolderStore
from prunebench.records.record import Record
from prunebench.runner.declared import Declared, HandedOver
from prunebench.runner.disk_space import check_room
from prunebench.runner.environment import WHOLE, Share
from prunebench.runner.events import Display, EventRecorder
from prunebench.runner.measure_stage import Measuring, ToMeasure
from prunebench.runner.openmp import own_setting
from prunebench.runner.prune_stage import prune_cell
from prunebench.runner.pruning_stages import handed_by, of_stage
from prunebench.runner.resources import Resources, remove_left_work, work_folder
from prunebench.runner.resume import PRUNE
from prunebench.runner.run_cell import Found, Limits, StageFailed, failure_of, run_stages
from prunebench.runner.saved_state import INTERVAL, SavedState
from prunebench.suite.cell import Cell


class InProcess:
    """An ``Executor`` that runs cells in this process: one that crashes or hangs takes the sweep along.

    What a method leaves behind here meets the next cell, and its figures: it is for debugging, and records say so.

    Args:
        shared: what evaluations have looked up already.
        every: seconds between two saves of a cell's progress.
        stop: once set, the cell in hand ends by ``Stopped`` when its progress is saved.
    """

    def __init__(self, shared: Shared | None = None, *, every: float = INTERVAL, stop: Event | None = None) -> None:
        self._resources, self.limits, self.alone = Resources(shared), Limits(), True
        self._every, self._stop = every, stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def reader(self) -> None:
        """Plugins are imported here, as anywhere in this process."""
        return None

    def side_by_side(self, shares: Sequence[Share]) -> NoReturn:
        """No other worker has this process.

        Raises:
            EngineError: always.
        """
        raise EngineError("--in-process runs one cell at a time, in this process: leave it out, or --workers")

    def prepare(self, cells: Sequence[Cell], output: Path, *, save_models: bool = False) -> None:
        """Tokenise every text, load every task, see that there is room.

        Args:
            cells: to be run.
            output: the results folder.
            save_models: whether pruned models will be kept in it.

        Raises:
            UsageError: a text does not fit, or the disk has no room for models on it.
        """
        self._resources.output = output
        self._resources.prepare(cells)
        check_room(cells, self._resources, output, save_models=save_models)

    def run(
        self,
        cell: Cell,
        output: Path,
        display: Display,
        *,
        save_models: bool = False,
        verify: bool = False,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Record:
        """Run a cell and write its record.

        Args:
            cell: what to run.
            output: the results folder.
            display: shows the progress.
            save_models: keep the pruned model too.
            verify: make evaluations once more on text that is made after pruning.
            wanted: asked before the record is written; nothing can be stopped here earlier.

        Raises:
            OutputError: the folder cannot be written.
            Abandoned: the result is not wanted any more.
            Stopped: a stop was asked for.
        """
        remove_left_work(output, cell)
        saved_state = SavedState.of(output, cell, interval=self._every, stop=self._stop)
        saved_to = output if save_models else None
        record, arrays = run_cell(
            cell, self._resources, display, save_to=saved_to, saved_state=saved_state, fence=wanted, verify=verify
        )
        return finish(output, record, arrays, saved_state, wanted)


def finish(
    output: Path, record: Record, arrays: dict[str, np.ndarray], saved_state: SavedState, wanted: Callable[[], bool]
) -> Record:
    """Write a cell's record, and remove what it kept on its way: all, or of a failed one what would fail again.

    Raises:
        OutputError: the folder cannot be written.
        Abandoned: the record is not wanted any more: another runner has the cell.
    """
    written = FolderStore(output).write(record, arrays, fence=wanted)
    if record.status == "ok":
        saved_state.remove()
    else:  # a model that is pruned is kept, if it was kept
        for stage in range(len(record.cell.stages)):
            saved_state.part(of_stage(PRUNE, stage)).remove()
    return written


def run_cell(
    cell: Cell,
    resources: Resources,
    display: Display,
    *,
    save_to: Path | None = None,
    saved_state: SavedState | None = None,
    fence: Fence | None = None,
    verify: bool = False,
) -> tuple[Record, dict[str, np.ndarray]]:
    """Prune and measure one cell in this process; see ``run_stages``.

    Args:
        cell: what to run.
        resources: what cells share.
        display: shows the progress.
        save_to: the results folder that takes the pruned model; None to let it go.
        saved_state: what an interrupted attempt left, and takes what this one leaves; None for neither.
        fence: asked before the model is saved.
        verify: see ``run_stages``.
    """
    try:
        with work_folder(resources.output, cell) as work:
            stages, saved_state = _Here(resources, display, fence), saved_state or SavedState()
            return run_stages(cell, stages, work, saved_state, save_to, verify=verify)
    finally:
        gc.collect()


class _Here:
    """All stages in this process."""

    measured, share = "in-process", WHOLE

    def __init__(self, resources: Resources, display: Display, fence: Fence | None) -> None:
        self._resources, self._display, self._fence = resources, display, fence
        self.waiting = own_setting()

    def prune(
        self, cell: Cell, saved_state: SavedState, work: Path, before: HandedOver | None
    ) -> tuple[Declared, HandedOver]:
        """Prune here."""
        told: dict[str, dict[str, str]] = {}
        events = EventRecorder(self._display)
        try:
            declared = prune_cell(cell, self._resources, events, saved_state, work, told.__setitem__, before)
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            raise StageFailed(failure_of(error), dict(events.notes), events.rows) from error
        return declared, handed_by(before, work, told.get("allocated"), told.get("masks"))

    def measure(
        self,
        cell: Cell,
        saved_state: SavedState,
        work: Path,
        handed: HandedOver,
        asked: ToMeasure,
    ) -> Found:
        """Measure here."""
        measuring = Measuring(cell, self._resources, self._display, saved_state, work)
        failure = None
        try:
            measuring.run(handed, asked, self._fence)
        except (Exception, SystemExit) as error:
            failure = failure_of(error)
        return measuring.outcome(), measuring.arrays, failure
