"""The engine that a suite or a command asks for."""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from prunebench.errors import EngineError
from prunebench.registry.engines import load_engine
from prunebench.runner.engines.interface import Engine
from prunebench.runner.engines.local import Local
from prunebench.suite.entries import EngineEntry


def chosen_engine(
    entry: EngineEntry | None, name: str | None = None, workers: int | None = None, files: Iterable[Path] = ()
) -> Engine:
    """An engine with its options; by default the workers of this machine.

    Args:
        entry: of the suite.
        name: in place of the suite's; its options are kept where that is the same.
        workers: its option of that name.
        files: plugin files, whose engines stand beside the installed ones.

    Raises:
        EngineError: there is none of that name, or it refuses an option.
    """
    asked = entry if name is None or (entry is not None and entry.name == name) else EngineEntry(name=name)
    given = {} if workers is None else {"workers": workers}
    if asked is None:
        return Local(**given)
    return cast(Engine, load_engine(asked.name, files).make({**asked.options, **given}))


def preview_of(engine: Engine) -> None:
    """See that an engine has a job to show.

    Raises:
        EngineError: it submits none.
    """
    if not callable(getattr(engine, "preview", None)):
        raise EngineError(
            f"--dry-run prints the job that an engine would submit, and {type(engine).__name__!r} submits none: "
            "prunebench plan says what would run"
        )
