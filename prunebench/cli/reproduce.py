"""The command ``reproduce``: a paper's experiment is run, and its published perplexities are held against ours."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.executor import Executors
from prunebench.cli.output import print_message, print_tables
from prunebench.cli.plugins import PluginFiles
from prunebench.cli.run import run
from prunebench.cli.suite_options import Device, InProcess, Only, Overrides, evaluations_of, plain
from prunebench.cli.trials import existing_trials
from prunebench.errors import UsageError, suggest
from prunebench.quiet import quiet_libraries

OUTCOME = "reproduction"  # a folder beside the records, so that what is in it is not taken for one


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A paper's suite by name, as wanda, or a suite file.")],
    model: Annotated[
        str | None, typer.Option(metavar="ID", help="Which of its models.  [default: the first, its smallest]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder of the records.  [default: results/reproduce-NAME]"),
    ] = None,
    override: Overrides = None,
    only: Only = None,
    device: Device = None,
    plugin: PluginFiles = None,
    in_process: InProcess = False,
) -> None:
    """Run a paper's experiment and say which of its published perplexities ours agree with.

    An interrupted reproduction goes on where it was. DIR/reproduction/NAME--MODEL.json holds the outcome,
    to be sent in.
    """
    with quiet_libraries(), Executors(in_process=in_process) as processes:
        from prunebench.registry.reading import PluginFiles as ReadFiles

        path, label, replaced = narrowed(name, model, ReadFiles(plugin or (), processes.reader))
    replaced += override or ()
    folder = output or Path("results") / f"reproduce-{path.stem}"
    try:
        run(
            suite=path, output=folder, override=replaced, only=only, device=device, plugin=plugin, in_process=in_process
        )
        code = 0
    except typer.Exit as failed:
        code = failed.exit_code
    if code > 1:
        raise typer.Exit(code)
    from prunebench.files import make_folder, write_atomically
    from prunebench.records.store import read_records
    from prunebench.report.reproduction import reproduction_json, reproduction_table, reproductions
    from prunebench.suite.file import load_suite
    from prunebench.suite.tuning import plan_tuned

    with quiet_libraries(), Executors(in_process=in_process) as processes:
        files = ReadFiles(plugin or (), processes.reader)
        planned = plan_tuned(load_suite(path, replaced, files), only=only or (), device=device, plugin_files=files)
    tried = existing_trials(planned, folder)
    if planned.awaits(tried):  # as ``run`` has said
        raise typer.Exit(1)
    # The folder may hold records of another model, or of this suite with other options: they are not judged.
    asked = {cell.id for cell in planned.chosen(tried)[0]}
    records = [record for record in read_records(folder, leave_out=print_message) if record.cell.id in asked]
    rows = reproductions(records)
    print_tables([reproduction_table(rows)])
    facts = reproduction_json(path.stem, rows, records, complete=not code)
    outcome = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    make_folder(folder / OUTCOME)
    outcome_file = folder / OUTCOME / f"{path.stem}--{re.sub(r'[^A-Za-z0-9.]+', '-', label)}.json"
    write_atomically(outcome_file, outcome.encode())
    print_message(f"to be sent in: {outcome_file}")
    if not facts["passed"]:
        raise typer.Exit(1)


def narrowed(name: str, model: str | None, plugin_files: Iterable[Path] = ()) -> tuple[Path, str, list[str]]:
    """A paper's suite, and what of it is replaced: one model, the methods and sparsities that have figures for it.

    Args:
        name: of a suite of ``suites/paper``, or a suite file.
        model: id or label of one of its models; the first if None.
        plugin_files: whose evaluations the suite may name.

    Returns:
        The suite's file, the model's label, and ``KEY=VALUE`` overrides.

    Raises:
        UsageError: there is none of that name, or no figure that states how nearly it must be met.
    """
    from prunebench.suite.evaluation_entries import PerplexityEntry
    from prunebench.suite.file import load_suite
    from prunebench.suite.published import read_published

    path = suite_named(name)
    suite = load_suite(path, (), plugin_files)
    known = [label for entry in suite.models for label in (entry.id, entry.name)]
    chosen = [entry for entry in suite.models if model in (None, entry.id, entry.name)]
    if not chosen:
        raise UsageError(f"{path.name} has no model {model!r}: {suggest(str(model), known)}")
    target = chosen[0]
    published = [row for file in suite.published_files for row in read_published(Path(file))]
    stated = [row for row in published if row.figure.tolerance and row.figure.protocol]
    names = target.id.partition("@")[0], target.name
    methods = []
    for entry in suite.methods:
        wanted = {row.sparsity for row in stated if row.is_for(names, [entry.title], row.sparsity)}
        sparsities = [str(s) for s in entry.sparsities or suite.sparsities if str(s) in wanted]
        if (sparsities or "0" in wanted) and target.name in (entry.models or [target.name]):  # dense has no sparsities
            methods.append({**plain(entry), "models": None, "sparsities": sparsities or None})
    texts = tuple(e for e in suite.evaluations if isinstance(e, PerplexityEntry) and e.is_for(target.name))
    if not methods or not texts:
        raise UsageError(
            f"{path.name} has no published perplexity of {target.id} that states a tolerance: name another model with "
            f"--model; {', '.join(entry.id for entry in suite.models)}"
        )
    parts = {
        "models": [plain(target)],
        "methods": methods,
        "evaluations": evaluations_of(suite.model_copy(update={"evaluations": texts}), target.name),
    }
    return path, target.name, [f"{key}={json.dumps(value)}" for key, value in parts.items()]


def suite_named(name: str) -> Path:
    """The file of a suite: one of the papers', which come with the package, or any.

    Raises:
        UsageError: there is none.
    """
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    import prunebench

    package = Path(prunebench.__file__).parent
    places = (package / "papers", package.parent / "suites" / "paper")
    found = {path.stem: path for place in places for path in sorted(place.glob("*.yaml"))}
    if name not in found:
        raise UsageError(f"no paper's suite is called {name!r}: {suggest(name, found)}")
    return found[name]
