"""What a result may depend on besides its cell: versions, device, threads, commit."""

import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from prunebench.runner.memory import memory_bytes
from prunebench.suite.cell import Cell

VERSIONED = ("prunebench", "torch", "transformers", "lm-eval", "datasets", "numpy", "pluggy")


@dataclass(frozen=True)
class Share:
    """What a worker has of its machine.

    Args:
        threads: of each of its processes; None for as many as torch takes by default.
        gpu: which of the GPUs that this process sees is its own; None for the first.
        variables: environment variables of its processes, which see no more than that.
    """

    threads: int | None = None
    gpu: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def thread_count(self) -> int:
        """Threads of each process."""
        return self.threads or torch.get_num_threads()


WHOLE = Share()


def environment(cell: Cell, share: Share = WHOLE) -> dict[str, Any]:
    """What a result may depend on besides the cell: versions, device, threads, memory, commit, digests."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in VERSIONED},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(share.gpu)
        if cell.device == "cuda"
        else _processor() + _blocks_on(cell.device),
        "threads": share.thread_count,
        "memory_bytes": memory_bytes(cell.device, share.gpu),
        "git_commit": _git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_digest": cell.model_digest,
        "calibration_digest": cell.calibration.digest,
    }


def _blocks_on(device: str) -> str:
    return ", blocks on disk" if device == "disk" else ""


def _processor() -> str:
    """The processor's model where the system tells it, else its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit that this program was checked out at; None for an installed package."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    tracked = "site-packages" not in folder.parts
    return done.stdout.strip() or None if done.returncode == 0 and tracked else None
