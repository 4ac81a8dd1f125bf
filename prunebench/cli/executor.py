"""Who runs cells and imports plugins of others, started when first needed: a command answers before torch is there."""

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from prunebench.registry.reading import Reader
    from prunebench.runner.in_process import InProcess
    from prunebench.runner.isolated import Isolated


class Executors:
    """The processes of one command, as a context manager that ends them; a ``prunebench.registry.reading.Reader``.

    Args:
        in_process: run cells in this process instead.
        every: seconds between two saves of a cell's progress.
    """

    def __init__(self, *, in_process: bool = False, every: float = 60.0) -> None:
        self._in_process, self._every = in_process, every
        self._here: InProcess | None = None
        self._isolated: Isolated | None = None
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.__exit__(kind, error, trace)

    def started(self) -> "InProcess | Isolated":
        """The executor, whose processes begin to import what is large."""
        if not self._in_process:
            return self._apart().start()
        if self._here is None:
            from prunebench.runner.in_process import InProcess

            self._here = self._ends.enter_context(InProcess(every=self._every))
        return self._here

    def _apart(self) -> "Isolated":
        if self._isolated is None:
            self._isolated = self._ends.enter_context(self.isolated())
        return self._isolated

    def isolated(self) -> "Isolated":
        """Processes apart from this one, none of which is started yet."""
        from prunebench.runner.isolated import Isolated

        return Isolated(every=self._every)

    @property
    def reader(self) -> "Reader | None":
        """Who imports plugins of others; None where this process does."""
        return None if self._in_process else self

    def read(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Ask a process that imports a plugin; see ``prunebench.registry.reading.Reader``."""
        return self._apart().read(what, **arguments)
