"""Notes which share of a cell's pruning was spent with the CPU at work."""

import time
from collections.abc import Generator

from prunebench import hookimpl
from prunebench.pruning import trace


class Profiler:
    """Puts wall-clock and CPU seconds of each call into the record's trace."""

    @hookimpl(wrapper=True)
    def prune(self) -> Generator[None, None, None]:
        """Look at both clocks before and after."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = yield
        trace(0, wall_seconds=time.perf_counter() - wall, cpu_seconds=time.process_time() - cpu)
        return result
