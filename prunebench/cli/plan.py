"""The command ``plan``: the cells of a suite, which are done, and a forecast of what the others cost."""

from typing import Annotated

import typer

from prunebench.cli.executor import Executors
from prunebench.cli.output import AsJson, print_json, print_message, print_tables
from prunebench.cli.plugins import PluginFiles
from prunebench.cli.suite_options import (
    Device,
    Only,
    Output,
    Overrides,
    SuiteFile,
    existing_record,
    plan_suite,
    read_suite,
    reasons_to_run,
)
from prunebench.cli.trials import existing_trials, print_choices
from prunebench.quiet import quiet_libraries


def plan(
    suite: SuiteFile,
    output: Output = None,
    override: Overrides = None,
    only: Only = None,
    device: Device = None,
    plugin: PluginFiles = None,
    forecast: Annotated[
        bool, typer.Option("--forecast/--no-forecast", help="Foretell time, memory and disk by short runs.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of --forecast: after which a short run is stopped.")] = 5.0,
    save_models: Annotated[bool, typer.Option("--save-models", help="Count the disk that saved models take.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a suite and which have their record already; with --forecast also what the others will cost.

    To foretell, each method is started on each model and stopped after a few seconds. Forecasts are kept beside the
    records, where later plans find them, and a report shows them against what was measured. Of a suite that tunes,
    cells that await their trials are shown, and foretold, with the first combination of options.
    """
    with quiet_libraries(), Executors() as executors:
        asked = read_suite(suite, override, only, plugin, executors.reader)
        planned, folder = plan_suite(asked, output, only, device, plugin, executors.reader)
        from prunebench.records.record import TRIALS_FOLDER
        from prunebench.records.store import read_forecasts, write_forecasts
        from prunebench.suite.cell import sparsity_text

        tried = existing_trials(planned, folder)
        cells, left_out = planned.chosen(tried)
        print_choices(cells, tried)
        for line in left_out:
            print_message(line)
        awaited = {cell.id for cell in cells if cell.id in planned.searches and cell.tuning is None}
        places = [(planned.trials, folder / TRIALS_FOLDER), (cells, folder)]
        kept = (existing_record(folder, cell) for cell in cells if cell.id not in awaited)
        records = {record.cell.id: record for record in (*tried, *kept) if record is not None}
        to_run = [
            [cell for cell in own if cell.id not in records or records[cell.id].status != "ok"] for own, _ in places
        ]
        if forecast and any(to_run):
            both = [*to_run[0], *to_run[1]]
            with executors.isolated() as processes:
                found = processes.forecast(both, folder, seconds=seconds, save_models=save_models, tell=print_message)
            for own, (_, where) in zip(to_run, places, strict=True):
                names = {cell.id for cell in own}
                if of_place := [each for each in found if each.cell in names]:
                    write_forecasts(where, of_place)
        forecasts = {name: each for _, where in places for name, each in read_forecasts(where).items()}
        reasons = {
            name: why
            for own, (_, where) in zip(to_run, places, strict=True)
            for name, why in reasons_to_run(where, own).items()
        }
        reasons |= dict.fromkeys(awaited, "with the options that the trials choose")
    if as_json:
        print_json(
            [
                cell.model_dump(mode="json")
                | {"record": known and known.status, "reason": reasons.get(cell.id), "trial": own is planned.trials}
                | {"forecast": forecasts[cell.id].model_dump() if cell.id in forecasts else None}
                for own, _ in places
                for cell in own
                for known in [records.get(cell.id)]
            ]
        )
        return
    from prunebench.report.scenes import Scenes
    from prunebench.report.tables.forecasts import forecast_tables, plan_table

    tables = [
        plan_table(
            [((cell.model, cell.method, sparsity_text(cell), str(cell.seed)), cell.id) for cell in own],
            records,
            forecasts,
            str(where),
            reasons,
            what=what,
        )
        for (own, where), what in zip(places, ("trials", "cells"), strict=True)
        if own
    ]
    print_tables([*tables, *forecast_tables(Scenes.of(list(records.values())).settings, forecasts)])
