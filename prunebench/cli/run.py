"""The command ``run``: run the cells of a suite that have no record yet, and print the tables."""

import shlex
import sys
from typing import Annotated, Any

import typer

from prunebench.cli import suite_options
from prunebench.cli.engine_options import DryRun, NoWait, On, WorkerCount, command_words
from prunebench.cli.executor import Executors
from prunebench.cli.output import AsJson, print_block, print_json, print_message, print_tables
from prunebench.cli.plugins import PluginFiles
from prunebench.cli.signals import raise_on_signals, signal_exit_code, signal_name
from prunebench.cli.suite_options import Device, Only, Output, Overrides, SuiteFile, all_records, plan_suite, read_suite
from prunebench.cli.trials import awaiting, existing_trials, print_choices
from prunebench.quiet import quiet_libraries


def run(
    suite: SuiteFile,
    output: Output = None,
    override: Overrides = None,
    only: Only = None,
    device: Device = None,
    plugin: PluginFiles = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run cells again whose record is there.")] = False,
    save_models: Annotated[
        bool, typer.Option("--save-models", help="Keep the pruned models: DIR/models, and DIR/sparse, compact.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Measure once more on text made after pruning, where a corpus can make some."),
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only the I-th of N shares of the cells; see merge.")
    ] = None,
    in_process: suite_options.InProcess = False,
    every: Annotated[
        float,
        typer.Option("--checkpoint-every", min=0, metavar="SECONDS", help="Between two saves of a cell's progress."),
    ] = 60.0,
    on: On = None,
    workers: WorkerCount = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Run every cell of a suite whose record is not there yet, and print the tables.

    Cells run in a process of their own: one that crashes, hangs or takes too much memory fails, and the others go on.
    """
    stdout = sys.stdout  # which is not to be written to by libraries
    with quiet_libraries():
        folder = None
        try:
            with raise_on_signals(), Executors(in_process=in_process, every=every) as executors:
                asked = read_suite(suite, override, only, plugin, executors.reader)
                executor = executors.started()
                from prunebench.records.record import TRIALS_FOLDER
                from prunebench.registry.reading import PluginFiles as ReadFiles
                from prunebench.runner.engines.chosen import chosen_engine, preview_of
                from prunebench.runner.progress import display_for
                from prunebench.runner.run_cell import Limits
                from prunebench.runner.saved_state import INTERVAL
                from prunebench.runner.sweep import preview_job, run_suite
                from prunebench.runner.trials import run_trials
                from prunebench.suite.planning import shard_of

                planned, folder = plan_suite(asked, output, only, device, plugin, executor.reader)
                executor.limits = Limits(asked.timeout, asked.memory_limit)
                files = ReadFiles(plugin or (), executor.reader)
                engine = chosen_engine(asked.engine, on, workers, files)
                given: dict[str, Any] = {"--set": override, "--only": only, "--device": device, "--shard": shard}
                given |= {
                    "--save-models": save_models,
                    "--verify": verify,
                    "--checkpoint-every": None if every == INTERVAL else every,
                }
                common: dict[str, Any] = {
                    "fresh": fresh,
                    "executor": executor,
                    "engine": engine,
                    "command": command_words(suite, folder, given, plugin or ()),
                }
                own_trials = shard_of(planned.trials, shard)
                if dry_run:
                    preview_of(engine)
                    tried = [] if fresh else existing_trials(planned, folder)
                    if planned.awaits(tried):
                        first, place = own_trials, folder / TRIALS_FOLDER
                    else:
                        first, place = shard_of(planned.chosen(tried)[0], shard), folder
                    return typer.echo(preview_job(first, place, **common), file=stdout, nl=False)
                if own_trials:
                    print_message(f"trials of options, whose records are in {folder / TRIALS_FOLDER}:")
                    with display_for(sys.stderr) as display:
                        run_trials(own_trials, folder, display, **common)
                tried = existing_trials(planned, folder)
                if missing := planned.awaits(tried):
                    if as_json:
                        print_json(
                            {"output": str(folder), "ok": 0, "failed": 0, "cells": [], "trials_missing": missing}
                        )
                    return print_message(awaiting(missing, planned, own_trials, shard))
                cells, left_out = planned.chosen(tried)
                print_choices(cells, tried)
                cells = shard_of(cells, shard)
                if not cells:
                    for line in left_out or [
                        f"--shard {shard} holds none of the suite's cells: there is nothing to do"
                    ]:
                        print_message(line)
                    raise typer.Exit(1 if left_out else 0)
                with display_for(sys.stderr) as display:
                    records = run_suite(
                        cells,
                        folder,
                        display,
                        save_models=save_models,
                        verify=verify,
                        wait=not no_wait,
                        **common,
                    )
        except KeyboardInterrupt as interrupt:
            if folder is None:
                raise
            print_message(
                f"{signal_name(interrupt)}: the records so far are in {folder}; the same command goes on from there"
            )
            raise typer.Exit(signal_exit_code(interrupt)) from None
    if save_models:
        from prunebench.report.output.model_card import write_cards

        write_cards(folder, records)
    for record in records if in_process else ():
        if record.error is not None and record.error.traceback:
            print_block(f"{record.cell.id}\n{record.error.traceback}")
    failed = sum(record.status == "failed" for record in records)
    if missing := len(cells) - len(records):
        print_message(f"{missing} of {len(cells)} cells have no record yet; the same command goes on")
    if as_json:
        cell_states = [{"id": record.cell.id, "status": record.status} for record in records]
        print_json({"output": str(folder), "ok": len(records) - failed, "failed": failed, "cells": cell_states})
    elif records:
        from prunebench.records.arrays import ArrayStore
        from prunebench.report.output.files import write_html
        from prunebench.report.sections import all_tables

        order = list(dict.fromkeys(cell.method for cell in cells))
        print_message("")
        print_tables(all_tables(records, order, ArrayStore(folder)))
        page = write_html(all_records(folder), folder, order, ArrayStore(folder))
        report_command = f"prunebench report {shlex.quote(str(folder))}"
        print_message("")
        print_message(f"report: {page}")
        print_message(f"records: {folder}")
        print_message("the tables again, also as Markdown, LaTeX or CSV:")
        print_message(report_command)
    unconfirmed = [(record, name) for record in records for name, facts in record.verified.items() if not facts.agrees]
    for record, name in unconfirmed if verify else ():
        facts = record.verified[name]
        print_message(
            f"{record.cell.id}: {name} is not confirmed on text that was made after pruning, where pruning costs "
            f"{facts.excess:.3g} nats a token more, {facts.excess / facts.excess_stderr:.1f} standard errors: the "
            "method may know the text that it was tested on"
        )
    for line in left_out:
        print_message(line)
    if failed:
        print_message(f"{failed} of {len(records)} cells failed; the same command tries them again")
    if failed or left_out or (verify and unconfirmed):
        raise typer.Exit(1)
