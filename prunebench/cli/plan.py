"""The command ``plan``: the cells of a suite, which are done, and a forecast of what the others cost."""

from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.cli.output import AsJson, print_json, print_message, print_tables
from prunebench.cli.plugins import PluginFiles
from prunebench.cli.suite_options import (
    Device,
    Only,
    Output,
    Overrides,
    SuiteFile,
    existing_record,
    load_request,
    reasons_to_run,
)
from prunebench.quiet import quiet_libraries

if TYPE_CHECKING:
    from prunebench.records.record import Forecast
    from prunebench.suite.cell import Cell


def plan(
    suite: SuiteFile,
    output: Output = None,
    override: Overrides = None,
    only: Only = None,
    device: Device = None,
    plugin: PluginFiles = None,
    forecast: Annotated[
        bool, typer.Option("--forecast/--no-forecast", help="Foretell time, memory and disk by short runs.")
    ] = True,
    seconds: Annotated[float, typer.Option(min=0.1, help="After which a short run is stopped.")] = 5.0,
    save_models: Annotated[bool, typer.Option("--save-models", help="Count the disk that saved models take.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a suite, which have their record already, and what the others will cost.

    Each method is started on each model and stopped after a few seconds. The forecasts are kept beside the records, so
    that a report can show them against what was measured.
    """
    from prunebench.records.store import read_forecasts, write_forecasts
    from prunebench.runner.progress import sparsity_text

    with quiet_libraries():
        from prunebench.runner.isolated import Isolated

        with Isolated() as processes:
            request = load_request(suite, output, override, only, device, plugin, processes)
            trials = request.trials()
            tried = [existing_record(request.trials_folder, cell) for cell in trials]
            known = [record for record in tried if record is not None]
            cells: tuple[Cell, ...] = ()
            if len(known) == len(trials):
                cells, left_out = request.cells(known)
                for line in left_out:
                    print_message(line)
        folders = [request.trials_folder] * len(trials) + [request.folder] * len(cells)
        records = tried + [existing_record(request.folder, cell) for cell in cells]
        cells = trials + cells
        forecasts: dict[str, Forecast] = {}
        reasons: dict[str, str] = {}
        for folder in dict.fromkeys(folders):
            to_run = [
                cell
                for cell, record, where in zip(cells, records, folders, strict=True)
                if where == folder and (record is None or record.status != "ok")
            ]
            if forecast and to_run:
                with Isolated() as processes:
                    found = processes.forecast(
                        to_run, folder, seconds=seconds, save_models=save_models, tell=print_message
                    )
                write_forecasts(folder, found)
            forecasts |= read_forecasts(folder)
            reasons |= reasons_to_run(folder, to_run)
    if as_json:
        print_json(
            [
                cell.model_dump(mode="json")
                | {"record": record and record.status, "reason": reasons.get(cell.id)}
                | {"forecast": forecasts[cell.id].model_dump() if cell.id in forecasts else None}
                for cell, record in zip(cells, records, strict=True)
            ]
        )
        return
    from prunebench.report.tables.forecasts import forecast_tables, plan_table

    rows = [((cell.model, cell.method, sparsity_text(cell), str(cell.seed)), cell.id) for cell in cells]
    by_id = {record.cell.id: record for record in records if record is not None}
    plans = plan_table(rows, by_id, forecasts, str(request.folder), reasons)
    print_tables([plans, *forecast_tables(list(by_id.values()), forecasts)])
    if trials and len(trials) == len(cells):
        print_message("these are trials of options; the suite's own cells are planned once all of them have run")
