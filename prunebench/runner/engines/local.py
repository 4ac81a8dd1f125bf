"""Workers on this machine: one, or several side by side, each with its device and its share of cores."""

import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

import torch

from prunebench.errors import EngineError
from prunebench.runner.engines.claimed import ClaimedCells
from prunebench.runner.engines.interface import Work, Workers
from prunebench.runner.environment import Share

END = 20.0  # seconds for a worker to end: a stage may keep its state for five
TICK = 0.5  # seconds: a signal that comes just before a wait begins does not end it, and is handled after


@dataclass(frozen=True)
class Local:
    """Workers on this machine.

    Args:
        workers: how many cells run at a time; by default one for each GPU, on a CPU one.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"{self.workers} workers: give a number from 1")

    def start(self, work: Work) -> Workers:
        """Have every worker ready; see ``prunebench.runner.engines.interface.Engine``.

        Raises:
            EngineError: more workers are asked for than there are GPUs.
            UsageError: a text does not fit its windows or the model.
        """
        count = self._count(work)
        if count > 1:  # shares do not depend on how many cells are left, nor do figures
            return ManyWorkers(work, shares(work, count)[: len(work.cells)])
        work.executor.prepare(list(work.cells.values()), work.output, save_models=work.save_models)
        return OneWorker(work)

    def _count(self, work: Work) -> int:
        gpus = torch.cuda.device_count() if any(cell.device == "cuda" for cell in work.cells.values()) else 0
        if self.workers is None:
            return gpus if gpus > 1 and not work.executor.alone else 1
        if gpus and self.workers > gpus:
            here = "GPU is" if gpus == 1 else "GPUs are"
            raise EngineError(f"{self.workers} workers, but {gpus} {here} here: ask for at most one worker a GPU")
        if not gpus and self.workers > (cores := core_count()):
            work.tell(
                f"{self.workers} workers on {cores} core{'s' if cores > 1 else ''}: they will wait for each other"
            )
        return self.workers


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(work: Work, count: int) -> list[Share]:
    """What each of several workers has: its GPU, where there is one, and as many threads as there are cores for it."""
    own_setting = "OMP_NUM_THREADS" in os.environ
    threads = torch.get_num_threads() if own_setting else max(torch.get_num_threads() // count, 1)
    variables = {} if own_setting else {"OMP_NUM_THREADS": str(threads)}
    if not any(cell.device == "cuda" for cell in work.cells.values()):
        return [Share(threads, None, variables)] * count
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [Share(threads, gpu, {**variables, "CUDA_VISIBLE_DEVICES": names[gpu]}) for gpu in range(count)]


class OneWorker:
    """The cells in this thread, one after another."""

    def __init__(self, work: Work) -> None:
        self._cells, self._waiting = ClaimedCells(work), deque[str]()

    def submit(self, cell: str) -> None:
        """Take a cell."""
        self._waiting.append(cell)

    def finished(self) -> Iterator[str]:
        """Run them."""
        while self._waiting:
            self._cells.run(self._waiting[0])
            yield self._waiting.popleft()

    def stop(self) -> None:
        """Nothing runs."""


class ManyWorkers:
    """Workers side by side, each a thread that waits for processes of its own.

    Args:
        work: the sweep.
        shares: what each worker has of the machine.
    """

    def __init__(self, work: Work, shares: list[Share]) -> None:
        self._todo, self._done = SimpleQueue[str | None](), SimpleQueue[str | BaseException]()
        self._out, self._over = 0, False
        self._threads: list[Thread] = []
        # The processes that are there already see the first GPU as their own; the others import while texts are read.
        self._executors = work.executor.side_by_side(shares)
        cells = list(work.cells.values())
        try:
            for executor in self._executors[1:]:
                executor.start()
                executor.expect(cells, save_models=work.save_models)
            work.executor.prepare(cells, work.output, save_models=work.save_models)
        except BaseException:
            self.stop()
            raise
        for number, executor in enumerate(self._executors, start=1):
            claimed = ClaimedCells(work, executor)
            thread = Thread(target=self._run, args=[claimed], name=f"worker {number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, cells: ClaimedCells) -> None:
        try:
            while (cell := self._todo.get()) is not None and not self._over:
                cells.run(cell)
                self._done.put(cell)
        except BaseException as error:  # for the thread that waits
            self._done.put(error)

    def submit(self, cell: str) -> None:
        """Give a cell to the first worker that is free."""
        self._out += 1
        self._todo.put(cell)

    def finished(self) -> Iterator[str]:
        """The cells, as they end."""
        while self._out:
            try:
                ended = self._done.get(timeout=TICK)
            except Empty:
                continue
            if isinstance(ended, BaseException):
                raise ended
            self._out -= 1
            yield ended

    def stop(self) -> None:
        """End what runs, and all processes but those of the sweep's own executor, which may be asked again."""
        self._over = True
        for executor in self._executors if self._out else ():
            executor.stop()
        for _ in self._threads:
            self._todo.put(None)
        until = time.monotonic() + END
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        for executor in self._executors[1:]:
            executor.end()
