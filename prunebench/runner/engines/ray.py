"""Workers on a Ray cluster, or on this machine: a task for each cell, which starts our worker as a program of its own.

Nothing but the sweep, ids and events passes through Ray: records and what an interrupted cell kept are in the results
folder, which all nodes must share.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from prunebench.errors import EngineError, PrunebenchError, first_line
from prunebench.runner.engines.program import Relay, WorkerProgram

if TYPE_CHECKING:  # Ray's own processes, which only start ours, need not import torch
    from prunebench.runner.engines.interface import Work
    from prunebench.runner.engines.needs import Needs
    from prunebench.suite.cell import Cell

ANSWER = 5.0  # seconds for a cluster to take a connection
QUIET = 30.0  # seconds without any cell at work after which that is told
CARRIED = ("PRUNEBENCH_", "HF_", "GOMP_", "KMP_", "OMP_WAIT_POLICY")  # environment variables that workers are given too


@dataclass(frozen=True)
class Ray:
    """Workers on a Ray cluster, or on this machine.

    Args:
        address: of the cluster, as 10.0.0.1:6379, or auto for the one that this machine is part of; by default
            RAY_ADDRESS, and where that is not set this machine.
        workers: cells at a time; by default as many as there is room for.
        cpus_per_cell: cores of a cell, and threads of its processes unless OMP_NUM_THREADS says otherwise.
        gpus_per_cell: GPUs of a cell, as 0.5; auto is 1 where its peak of memory is above half a card, else its share.
        card_bytes: memory of a card, for auto; by default that of this machine's, and without one cells have one each.
        retries: how often a cell is tried again whose worker or node was lost.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_cell: int = 1
    gpus_per_cell: float | Literal["auto"] = "auto"
    card_bytes: int | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        if (self.workers is not None and self.workers < 1) or self.cpus_per_cell < 1 or self.retries < 0:
            raise ValueError("workers and cpus_per_cell are numbers from 1, and retries one from 0")

    def start(self, work: "Work") -> "RayWorkers":
        """Connect; see ``prunebench.runner.engines.interface.Engine``.

        Raises:
            EngineError: Ray is not installed, the cluster does not answer, or cells need GPUs that it has not.
        """
        from prunebench.runner.engines.needs import AllNeeds

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would leave cells what other programs do not take
        try:
            import ray
        except ImportError:
            raise EngineError("Ray is not installed: pip install 'prunebench[ray]'") from None
        connect = not ray.is_initialized()
        ours = connect and self._connect(ray)
        try:
            needs = AllNeeds(work)
            demands = {name: self.demand(cell, needs.of(cell)) for name, cell in work.cells.items()}
            self._check_room(ray, work, demands, may_grow=not ours)
        except BaseException:
            if connect:
                ray.shutdown()
            raise
        return RayWorkers(self, work, ray, demands, shut_down=connect)

    def _connect(self, ray: ModuleType) -> bool:
        """Connect; whether the cluster is one of this machine alone, started here."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        if address is not None and address not in ("auto", "local"):
            host, _, port = address.rpartition(":")
            if "://" in address or not host or not port.isdigit():
                raise EngineError(f"the address of a Ray cluster is HOST:PORT, as 10.0.0.1:6379, not {address!r}")
            try:
                socket.create_connection((host, int(port)), ANSWER).close()
            except OSError as error:
                why = error.strerror or str(error)
                raise EngineError(
                    f"no Ray cluster answers at {address}: {why}; is `ray start --head` running there?"
                ) from None
        try:
            options: dict[str, Any] = {"include_dashboard": False} if address in (None, "local") else {}
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **options)
        except Exception as error:  # Ray has several, for one and the same
            where = f"at {address}" if address else "on this machine"
            raise EngineError(f"Ray cannot be had {where}: {first_line(error)}") from None
        return bool(options)

    def demand(self, cell: "Cell", needs: "Needs") -> dict[str, float]:
        """What a cell asks Ray for, which knows whole and fractional GPUs and no bytes of them."""
        gpus: float = needs.gpus
        if needs.gpus and self.gpus_per_cell != "auto":
            gpus = self.gpus_per_cell
        elif needs.gpus and (card := self.card_bytes or _card_bytes()) and needs.gpu_bytes <= card / 2:
            gpus = max(-(-needs.gpu_bytes * 10 // card), 1) / 10
        return {"num_cpus": self.cpus_per_cell, "num_gpus": gpus}

    def _check_room(
        self, ray: ModuleType, work: "Work", demands: Mapping[str, dict[str, float]], *, may_grow: bool
    ) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for what, name in (("num_gpus", "GPU"), ("num_cpus", "CPU")):
            most = max((node.get(name, 0) for node in nodes), default=0)
            if (asked := max(demand[what] for demand in demands.values())) > most:
                line = f"a cell asks for {asked:g} {name}s, and no node of the Ray cluster has more than {most:g}"
                if not may_grow:
                    raise EngineError(f"{line}: ask for fewer ({what.removeprefix('num_')}_per_cell)")
                work.tell(f"{line}: it waits until one is started")


def _card_bytes() -> int | None:
    import torch

    return int(torch.cuda.mem_get_info()[1]) if torch.cuda.is_available() else None


class RayWorkers:
    """A sweep on a Ray cluster.

    Args:
        engine: with its options.
        work: the sweep.
        ray: the module.
        demands: what each cell asks for, by id.
        shut_down: whether Ray is left when the sweep is over.
    """

    def __init__(
        self, engine: Ray, work: "Work", ray: ModuleType, demands: Mapping[str, dict[str, float]], *, shut_down: bool
    ) -> None:
        self._engine, self._work, self._ray, self._demands, self._shut_down = engine, work, ray, demands, shut_down
        self._waiting: list[tuple[str, bool]] = []
        self._running: dict[Any, str] = {}
        self._losses = Counter[str]()
        self._relay = Relay(work)
        # By a file of its own a node sees whether it has this very folder, and not one of the same name.
        self._sign = work.output / f".engine.{os.urandom(8).hex()}"
        self._sign.touch()
        # Never a worker of Ray's for each cell, as is the default where there are GPUs: ours would import all anew.
        options = {"num_returns": "streaming", "max_retries": 0, "max_calls": 0}
        self._task = ray.remote(**options)(run_cell)
        self._text = ray.put(work.to_json())

    def submit(self, cell: str) -> None:
        """Take a cell."""
        self._waiting.append((cell, False))

    def finished(self) -> Iterator[str]:
        """The cells, as they end; one whose worker or node is lost is tried again."""
        quiet = 0.0
        while self._waiting or self._running:
            self._fill()
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1.0, fetch_local=False)
            quiet = 0.0 if ready else quiet + 1.0
            if quiet == QUIET and not self._relay.heard:
                self._work.tell("no cell has begun: the Ray cluster has no room yet, or its workers are starting")
            for task in ready:
                try:
                    self._relay.hear(self._ray.get(next(task)))
                except StopIteration:
                    yield self._running.pop(task)
                except self._ray.exceptions.RayError as error:
                    cell = self._running.pop(task)
                    if not self._tries_again(cell, error):
                        yield cell

    def _fill(self) -> None:
        """Hand cells over, so that Ray sees what there is to do and a cluster may grow."""
        while self._waiting and len(self._running) < (self._engine.workers or len(self._work.cells)):
            cell, retry = self._waiting.pop(0)
            task = self._task.options(**self._demands[cell])
            variables = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
            variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(self._engine.cpus_per_cell))
            self._running[task.remote(self._text, str(self._sign.resolve()), variables, cell, retry)] = cell

    def _tries_again(self, cell: str, error: Exception) -> bool:
        """Whether a cell whose task failed is tried again.

        Raises:
            UsageError: its worker refused the sweep.
        """
        cause = getattr(error, "cause", None)
        if isinstance(cause, PrunebenchError):
            raise cause
        why = f"{type(cause or error).__name__}: {first_line(cause or error)}"
        self._losses[cell] += 1
        if self._losses[cell] > self._engine.retries:
            self._work.fail(cell, f"its worker was lost {self._losses[cell]} times, at last by {why}")
            return False
        times = f"{self._losses[cell]} of {self._engine.retries}"
        self._work.tell(f"the worker of {cell} was lost and the cell is tried again ({times}): {why}")
        self._waiting.append((cell, True))
        return True

    def stop(self) -> None:
        """End all tasks, and their workers with them."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._sign.unlink(missing_ok=True)
        if self._shut_down:
            self._ray.shutdown()


def run_cell(work: str, sign: str, variables: dict[str, str], cell: str, retry: bool) -> Iterator[list[Any]]:
    """A task: the events of one cell, run by our worker, which stays for the next task of this process.

    Args:
        work: what ``Work.to_json`` wrote.
        sign: a file in the results folder.
        variables: environment variables of the worker.
        cell: the cell's id.
        retry: whether an attempt was lost.

    Raises:
        EngineError: this node does not share the results folder.
        WorkerLost: the worker died.
    """
    if not Path(sign).exists():
        raise EngineError(
            f"the node {socket.gethostname()} does not see the results folder {Path(sign).parent}: a Ray cluster needs "
            "one file system for it; without one, use --shard on each machine, and merge"
        )
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    program = _program(work, tuple(sorted(variables.items())), gpus)
    try:
        yield from program.run(cell, retry=retry)
    except BaseException:
        _program.cache_clear()
        program.stop()
        raise


@lru_cache(maxsize=1)
def _program(work: str, variables: tuple[tuple[str, str], ...], gpus: str) -> WorkerProgram:
    return WorkerProgram(work, variables=dict(variables))
