"""Cells on Ray: what is refused, and sweeps whose workers and nodes are killed."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from prunebench.errors import EngineError
from prunebench.runner.engines.needs import Needs
from prunebench.runner.engines.ray import Ray, run_cell
from prunebench.runner.isolated import Isolated
from prunebench.runner.sweep import run_suite
from prunebench.suite.cell import Cell
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.faults.campaign import differing, outcome
from tests.helpers.command_line import one_line, prunebench
from tests.helpers.observers import SilentDisplay

Write = Callable[..., Path]
HERE = find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HERE, reason="needs Ray: pip install 'prunebench[ray]'")
GIB = 2**30


@pytest.mark.skipif(HERE, reason="Ray is installed")
def test_without_ray(write_suite: Write, tmp_path: Path) -> None:
    result = prunebench("run", write_suite(), "-o", tmp_path / "out", "--on", "ray")
    assert result.exit_code == 2
    assert one_line(result) == "error: Ray is not installed: pip install 'prunebench[ray]'"


@pytest.mark.parametrize(
    ("options", "gpu_bytes", "gpus"),
    [
        ({}, 0, 0),
        ({}, 1, 0.1),
        ({}, 8 * GIB, 0.1),
        ({}, 9 * GIB, 0.2),
        ({}, 40 * GIB, 0.5),
        ({}, 41 * GIB, 1),
        ({}, 200 * GIB, 1),
        ({"gpus_per_cell": 0.25}, 41 * GIB, 0.25),
    ],
)
def test_a_cell_asks_for_its_share_of_a_card(options: Any, gpu_bytes: int, gpus: float) -> None:
    needs = Needs(gpus=int(gpu_bytes > 0), gpu_bytes=gpu_bytes, host_bytes=1, seconds=None)
    cell: Any = None
    asked = Ray(card_bytes=80 * GIB, cpus_per_cell=3, **options).demand(cell, needs)
    assert asked == {"num_cpus": 3, "num_gpus": gpus}


def test_a_node_without_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=rf"{socket.gethostname()} does not see the results folder .*--shard"):
        next(run_cell("", str(tmp_path / "out" / ".engine.1"), {}, "a", False))


def cells_of(suite: Path) -> tuple[Cell, ...]:
    return plan(load_suite(suite))


@pytest.mark.ray
@needs_ray
class TestOnRay:
    @pytest.fixture(autouse=True)
    def _fresh(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        import ray

        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_worker_niceness", "0")
        yield
        ray.shutdown()

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: Connection refused; is `ray start --head`"),
            ("ray://head:10001", "the address of a Ray cluster is HOST:PORT, as 10.0.0.1:6379, not 'ray://head:10001'"),
            ("head", "the address of a Ray cluster is HOST:PORT"),
        ],
    )
    def test_an_address_that_does_not_answer(
        self, write_suite: Write, tmp_path: Path, address: str, message: str
    ) -> None:
        with pytest.raises(EngineError) as caught:
            run_suite(cells_of(write_suite()), tmp_path, SilentDisplay(), engine=Ray(address=address))
        assert str(caught.value).startswith(message)

    @pytest.mark.slow
    def test_more_gpus_than_there_are(self, write_suite: Write, tmp_path: Path) -> None:
        cells = [cell.model_copy(update={"device": "cuda"}) for cell in cells_of(write_suite())]
        with pytest.raises(
            EngineError, match="a cell asks for 2000 GPUs, and no node of the Ray cluster has more than"
        ):
            run_suite(cells, tmp_path, SilentDisplay(), engine=Ray(gpus_per_cell=2000.0))

    @pytest.fixture
    def suite(self, write_suite: Write) -> Path:
        elsa = "{name: elsa-l, options: {steps: 600, interval: 4, lr: 0.01}, sparsities: [0.5, 0.75]}"
        return write_suite(methods=f"methods: [magnitude, {elsa}]", sparsities="sparsities: [0.5]")

    @pytest.mark.slow
    def test_a_worker_that_is_killed(self, suite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        import ray

        cells, out = cells_of(suite), tmp_path / "out"
        run_suite(cells, tmp_path / "whole", SilentDisplay())
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        killer = threading.Thread(target=lambda: (kept(out), kill_a_worker()))
        killer.start()
        with Isolated(every=0.5) as executor:
            run_suite(cells, out, SilentDisplay(), executor=executor, engine=Ray(workers=2))
        killer.join()
        self.check(tmp_path, caplog, r"was lost and the cell is tried again (1 of 3): WorkerLost: it was killed")

    @pytest.mark.slow
    def test_a_cluster_that_loses_a_node(self, suite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        import ray
        from ray.cluster_utils import Cluster

        cells, out, display = cells_of(suite)[1:], tmp_path / "out", SilentDisplay()
        run_suite(cells, tmp_path / "whole", SilentDisplay())
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        node = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)

        def lose() -> None:
            while len(display.begun) < 2:  # one on each node
                time.sleep(0.1)
            kept(out, cells=2)
            cluster.remove_node(node)

        loser = threading.Thread(target=lose)
        loser.start()
        try:
            with Isolated(every=0.5) as executor:
                run_suite(cells, out, display, executor=executor, engine=Ray())
            loser.join()
        finally:
            ray.shutdown()
            cluster.shutdown()
        self.check(tmp_path, caplog, "was lost and the cell is tried again (1 of 3)")
        assert len(display.begun) == 3

    def check(self, folder: Path, caplog: pytest.LogCaptureFixture, told: str) -> None:
        """The records are those of an undisturbed run, and the loss was told in a line."""
        assert [told in line for line in caplog.messages].count(True) == 1
        assert not any("\n" in line for line in caplog.messages)
        whole, found = outcome(folder / "whole"), outcome(folder / "out")
        assert whole.keys() == found.keys()
        assert not [part for cell in whole for part in differing(whole[cell], found[cell])]
        assert not list((folder / "out").glob(".*"))


def kept(output: Path, cells: int = 1) -> None:
    """Wait until some cells have kept what they can go on from."""
    while len({path.parent for path in output.glob(".partial/*/prune/*.safetensors")}) < cells:
        time.sleep(0.05)


def kill_a_worker() -> None:
    """Kill one of our workers that Ray's own started."""
    program = "prunebench.runner.engines.worker"
    found = [each for each in psutil.process_iter(["cmdline"]) if program in (each.info["cmdline"] or ())]
    os.kill(found[0].pid, signal.SIGKILL)
