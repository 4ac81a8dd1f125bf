"""Peak memory of a stretch of work."""

from contextlib import suppress
from pathlib import Path

import torch


class PeakMemory:
    """Context manager; afterwards ``bytes`` is the peak inside it.

    On CUDA the most that torch had allocated; on the CPU the most that was resident (Linux; None elsewhere). Both
    count what was there before.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark VmHWM
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = torch.cuda.max_memory_allocated() if self._cuda else _high_water_mark()


def _high_water_mark() -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
