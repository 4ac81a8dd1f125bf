"""lm-eval, kept quiet: it logs, draws bars and prints as if it were alone on the terminal."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

from prunebench.pruning.callbacks import track
from prunebench.quiet import quiet_hub_libraries, replaced

MODULES_WITH_BARS = ("tqdm", "lm_eval.api.task", "lm_eval.api.model", "lm_eval.models.huggingface")
MULTIPROCESSING = "DISABLE_MULTIPROC"  # lm-eval looks at it


class Bar:
    """Stands in for tqdm in lm-eval's modules: what it would draw goes to whoever listens to the run."""

    def __init__(self, items: Iterable[Any] = (), *, total: int | None = None, **_: Any) -> None:
        self._items = items
        self._ticks = track(range(total or 0), "request")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def update(self, n: int = 1) -> None:
        """Advance by n."""
        for _ in range(n):
            next(self._ticks, None)

    def close(self) -> None:
        """Finish."""
        next(self._ticks, None)


@contextmanager
def silent() -> Iterator[None]:
    """lm-eval without logs, bars, what it prints on stdout, and worker processes for its resampling."""
    import datasets  # noqa: F401  (so that its bars are there to be switched off)

    with ExitStack() as stack:
        stack.enter_context(quiet_hub_libraries())
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(_one_process())
        for module in MODULES_WITH_BARS:
            stack.enter_context(replaced(import_module(module), tqdm=Bar))
        yield


@contextmanager
def _one_process() -> Iterator[None]:
    """Keep lm-eval's resampling in this process."""
    before = os.environ.get(MULTIPROCESSING)
    os.environ[MULTIPROCESSING] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[MULTIPROCESSING]
        else:
            os.environ[MULTIPROCESSING] = before
