"""Memory of the process: its peak over a stretch of work, and how much of it the allocator holds back."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

M_MMAP_THRESHOLD = -3  # its number in malloc.h
LARGE, CARVED = 1 << 20, 32 << 20  # bytes; glibc's own threshold grows up to the second


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


@contextmanager
def large_apart() -> Iterator[None]:
    """Within, memory of a megabyte or more goes back to the system when it is freed (glibc).

    By default glibc carves up to 32 MiB out of its heap, where a small piece that stays, made beside a decoder block,
    can hold back the block's memory. Each piece costs some system calls more.
    """
    _set_threshold(LARGE)
    try:
        yield
    finally:
        _set_threshold(CARVED)


def _set_threshold(size: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, size)


def memory_bytes(device: str, gpu: int | None = None) -> int | None:
    """Memory of a device, whether free or not: of the GPU, else of the machine or of the container that limits it.

    Args:
        device: cuda, or what computes on the CPU.
        gpu: its number; None for the first.
    """
    if device == "cuda":
        return int(torch.cuda.get_device_properties(gpu or 0).total_memory)
    limits = []
    with suppress(OSError, ValueError):  # "max" where there is no limit
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    with suppress(OSError, ValueError, IndexError):
        amounts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(1024 * int(amounts["MemTotal"].split()[0]))
    return min(limits, default=None)


def available_bytes(device: str) -> int | None:
    """Bytes that a process may come to hold; None where the system does not say."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[1])
    with suppress(OSError, ValueError, IndexError):
        amounts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return 1024 * (int(amounts["MemAvailable"].split()[0]) + int(resident.split()[1]))
    return None
