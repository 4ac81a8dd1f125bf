"""Suites from a program: planned, run, their records read and compared."""

import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prunebench.api.arguments import check_files, described
from prunebench.api.notebook import sweep_display
from prunebench.api.results import Results
from prunebench.errors import EngineError, RecordError, UsageError
from prunebench.quiet import quiet_libraries
from prunebench.records import store
from prunebench.records.arrays import ArrayStore
from prunebench.records.quarantine import read_intact_record
from prunebench.records.record import TRIALS_FOLDER, Record
from prunebench.registry.reading import PluginFiles, Reader
from prunebench.report.compare.compare import compare_records
from prunebench.report.compare.verdict import Comparison, Tolerances
from prunebench.suite.entries import EngineEntry
from prunebench.suite.file import explain, load_suite, suite_from
from prunebench.suite.schema import Suite
from prunebench.suite.tuning import TunedPlan, plan_tuned

if TYPE_CHECKING:
    from prunebench.suite.cell import Cell


def plan(
    suite: str | Path | Mapping[str, Any] | Suite,
    *,
    overrides: Iterable[str] = (),
    only: str | Iterable[str] = (),
    device: str | None = None,
    plugins: Iterable[str | Path] = (),
    output: str | Path | None = None,
) -> "tuple[Cell, ...]":
    """The cells of a suite; nothing runs. Of one that tunes, its trials and then its own cells.

    A cell that awaits its trials has the first combination of options, and ``tuning`` None.

    Args:
        suite: a file, a mapping with the same keys, or a ``Suite``. Relative paths in what is no file count from the
            current folder.
        overrides: ``key=value`` texts, as for ``prunebench run --set``.
        only: labels or names of methods.
        device: in place of every model's own.
        plugins: Python files whose plugins stand beside the installed ones.
        output: where records of trials are looked for; by default ``results/<suite name>``.

    Raises:
        UsageError: the suite is wrong, or names what is not there.
    """
    from prunebench.runner.isolated import Isolated

    with Isolated() as processes:
        loaded, planned = _planned(suite, overrides, only, device, plugins, processes)
    return planned.trials + _chosen(planned, _tried(planned, _results_folder(output, loaded)))


def run(
    suite: str | Path | Mapping[str, Any] | Suite,
    output: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    only: str | Iterable[str] = (),
    device: str | None = None,
    plugins: Iterable[str | Path] = (),
    fresh: bool = False,
    save_models: bool = False,
    verify: bool = False,
    in_process: bool = False,
    progress: bool | None = None,
    engine: str | Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> Results:
    """Run every cell of a suite whose record is not there yet.

    Args:
        suite, overrides, only, device, plugins: see ``plan``.
        output: the results folder; by default ``results/<suite name>``.
        fresh: run cells again whose record is there.
        save_models: keep the pruned models too.
        verify: measure once more on text made after pruning, where a corpus can make some (``record.verified``).
        in_process: run cells in this process, where one that crashes takes it along; otherwise in a worker.
        progress: whether to show progress; by default in notebooks and on terminals.
        engine: where cells run: a name, or a mapping of ``name`` and ``options``; by default as the suite says.
        workers: cells at a time; by default one for each GPU, on a CPU one.

    Returns:
        The record of every cell; a failed cell is a record with its error.

    Raises:
        UsageError: the suite is wrong, names what is not there, or the folder cannot be written.
    """
    from prunebench.runner.engines.chosen import chosen_engine
    from prunebench.runner.in_process import InProcess
    from prunebench.runner.isolated import Isolated
    from prunebench.runner.run_cell import Limits
    from prunebench.runner.sweep import run_suite
    from prunebench.runner.trials import run_trials

    with quiet_libraries(), InProcess() if in_process else Isolated() as executor:
        loaded, planned = _planned(suite, overrides, only, device, plugins, executor.reader)
        folder = _results_folder(output, loaded)
        executor.limits = Limits(loaded.timeout, loaded.memory_limit)
        entry = loaded.engine if engine is None else _engine_entry(engine)
        common: dict[str, Any] = {"fresh": fresh, "executor": executor}
        files = PluginFiles(check_files(plugins), executor.reader)
        common |= {"engine": chosen_engine(entry, workers=_count(workers), files=files)}
        if planned.trials:
            with sweep_display(progress) as display:
                run_trials(planned.trials, folder, display, **common)
        tried = _tried(planned, folder)
        if missing := planned.awaits(tried):
            raise EngineError(
                f"{missing} of {len(planned.trials)} trials have no record yet: run again when they have, or with an "
                "engine that waits for its cells"
            )
        cells = _chosen(planned, tried)
        with sweep_display(progress) as display:
            records = run_suite(
                cells,
                folder,
                display,
                save_models=save_models,
                verify=verify,
                **common,
            )
    return Results(tuple(records), folder, tuple(dict.fromkeys(cell.method for cell in cells)))


def read_records(folder: str | Path) -> Results:
    """The records of a results folder.

    Raises:
        UsageError: there is no such folder, or a record in it is not valid.
    """
    return Results(tuple(store.read_records(_folder(folder))), _folder(folder))


def compare(
    base: str | Path | Results, head: str | Path | Results, tolerances: Tolerances | Mapping[str, float] | None = None
) -> Comparison:
    """Compare two results folders, cell by cell, as ``prunebench compare`` does.

    Args:
        base: the folder to hold against, or its results.
        head: the folder that is judged, or its results.
        tolerances: how much worse a measure may be: ``perplexity``, ``accuracy``, ``trained``, ``time``, ``memory``;
            see ``prunebench.report.compare.Tolerances``.

    Returns:
        The comparison; ``exit_code`` is 1 for a regression, 2 where something could not be compared, else 0.

    Raises:
        UsageError: a folder has no records, or a tolerance is unknown.
    """
    sides = [side if isinstance(side, Results) else read_records(side) for side in (base, head)]
    if isinstance(tolerances, Mapping):
        try:
            tolerances = Tolerances(**tolerances)
        except TypeError:
            known = ", ".join(Tolerances.__dataclass_fields__)
            raise UsageError(f"tolerances is {described(tolerances)}: valid keys: {known}") from None
    elif not isinstance(tolerances, Tolerances | None):
        raise UsageError(f"tolerances is {described(tolerances)}: give a mapping, as {{'perplexity': 0.01}}")
    old, new = (ArrayStore(side.folder) for side in sides)
    return compare_records(sides[0].records, sides[1].records, old, new, tolerances)


def _planned(
    suite: Any, overrides: Any, only: Any, device: Any, plugins: Any, reader: Reader | None
) -> tuple[Suite, TunedPlan]:
    changes = [overrides] if isinstance(overrides, str) else list(overrides)
    files = PluginFiles(check_files(plugins), reader)
    if isinstance(suite, str | Path):
        loaded = load_suite(Path(suite), changes, files)
    elif isinstance(suite, Mapping | Suite):
        loaded = suite_from(suite, changes, files, folder=Path.cwd())
    else:
        raise UsageError(f"suite is {described(suite)}: give a YAML file, a mapping with its keys, or a Suite")
    chosen = [only] if isinstance(only, str) else list(only)
    with quiet_libraries():
        return loaded, plan_tuned(loaded, only=chosen, device=device, plugin_files=files, tell=warnings.warn)


def _tried(planned: TunedPlan, folder: Path) -> list[Record]:
    """The records of trials, but for those that are missing or damaged."""
    found: list[Record] = []
    for trial in planned.trials:
        with suppress(RecordError):
            found += [record] if (record := read_intact_record(folder / TRIALS_FOLDER, trial.id)) else []
    return found


def _chosen(planned: TunedPlan, tried: list[Record]) -> "tuple[Cell, ...]":
    """The cells of a suite whose trials have run."""
    cells, left_out = planned.chosen(tried)
    for line in left_out:
        warnings.warn(line, stacklevel=3)
    return cells


def _engine_entry(value: Any) -> EngineEntry:
    try:
        return EngineEntry.model_validate(value)
    except ValidationError as error:
        raise UsageError(f"engine is {described(value)}: {explain(error)}") from None


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise UsageError(f"workers is {described(value)}: give a number from 1")
    return value


def _results_folder(output: Any, suite: Suite) -> Path:
    return _folder(output) if output is not None else Path("results") / suite.name


def _folder(value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise UsageError(f"{described(value)} is no folder: give a path")
    return Path(value)
