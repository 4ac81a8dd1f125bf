"""The command ``score``: a checkpoint that any tool has pruned becomes a row of a results folder."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from prunebench.cli.executor import Executors
from prunebench.cli.output import AsJson, print_message
from prunebench.cli.plugins import PluginFiles
from prunebench.cli.run import run
from prunebench.cli.suite_options import Device, InProcess, Overrides, evaluations_of, plain
from prunebench.errors import UsageError
from prunebench.files import with_home
from prunebench.quiet import quiet_libraries

# The literature's protocol, where no suite names another.
SUITE = """
name: score
models: [unknown]
calibration: {corpus: wikitext2}
sparsities: [0.5]
methods: [dense]
evaluations: [{name: perplexity, corpus: wikitext2, seqlen: 2048}]
"""


def score(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The pruned checkpoint: a folder, or a hub id.")],
    dense: Annotated[str, typer.Option("--dense", metavar="ID", help="The model that it was made from.")],
    suite: Annotated[
        Path | None,
        typer.Option(metavar="SUITE", help="Whose evaluations to make.  [default: WikiText-2 in windows of 2048]"),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="NAME", help="What tables call it.  [default: FOLDER's]")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The results folder.  [default: results/score]")
    ] = None,
    override: Overrides = None,
    device: Device = None,
    plugin: PluginFiles = None,
    in_process: InProcess = False,
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint that any tool has pruned beside its dense model, and print the tables.

    Its pattern is recognised by its zeros. The row is marked as brought: how it was pruned is not known here.
    """
    with quiet_libraries():
        from prunebench.models.checkpoint import sparsity_of
        from prunebench.models.source import find_folder, find_model
        from prunebench.models.tokenizer_files import has_tokenizer
        from prunebench.registry.reading import PluginFiles as ReadFiles
        from prunebench.suite.entries import ModelEntry
        from prunebench.suite.file import load_suite

        local = with_home(folder)
        if with_home(dense).is_dir():  # a suite counts paths from its own folder
            dense = str(with_home(dense).resolve())
        # Many scripts save the weights alone.
        tokenizer = None if has_tokenizer(find_folder(folder)) else dense
        found = find_model(folder, tokenizer=tokenizer)
        sparsity = sparsity_of(found, dense)
    name = label or (local.resolve().name if local.is_dir() else folder)
    where = str(local.resolve()) if local.is_dir() else folder
    print_message(f"{folder} is sparse to {sparsity}")
    brought: dict[str, Any] = {
        "name": "checkpoint",
        "label": f"{name} (brought)",
        "options": {"folder": where, "digest": found.digest},
    }
    if tokenizer is not None:
        brought["options"]["tokenizer"] = tokenizer
    with tempfile.TemporaryDirectory() as work:
        if suite is None:
            suite = Path(work) / "score.yaml"
            suite.write_text(SUITE, encoding="utf-8")
        with Executors(in_process=in_process) as processes:
            loaded = load_suite(suite, (), ReadFiles(plugin or (), processes.reader))
        model = next((entry for entry in loaded.models if entry.id == dense), ModelEntry.model_validate(dense))
        evaluations = evaluations_of(loaded, model.name)
        others = f"{suite} are for other models than {model.name!r}"
        if not evaluations:
            raise UsageError(f"all evaluations of {others}: name another suite, or a model of this one as --dense")
        if left_out := len(loaded.evaluations) - len(evaluations):
            print_message(f"{left_out} of the {len(loaded.evaluations)} evaluations of {others}, and are not made")
        asked = {
            "models": [plain(model)],
            "sparsities": [str(sparsity)],
            "allocation": "uniform",
            "methods": ["dense", brought],
            "evaluations": evaluations,
            "published": None,
        }
        run(
            suite=suite,
            output=output or Path("results") / "score",
            override=[*(f"{key}={json.dumps(value)}" for key, value in asked.items()), *(override or ())],
            device=device,
            plugin=plugin,
            in_process=in_process,
            as_json=as_json,
        )
