"""Tables of forecast costs, and of forecasts compared with measurements."""

from collections.abc import Iterable, Mapping, Sequence

from prunebench import text
from prunebench.records.record import Forecast, Record
from prunebench.report.scene import Scene
from prunebench.report.tables.table import Table

MEMORY_TOLERANCE, TIME_TOLERANCE = 0.15, 0.30


def plan_table(
    rows: Sequence[tuple[tuple[str, str, str, str], str]],
    records: Mapping[str, Record],
    forecasts: Mapping[str, Forecast],
    folder: str,
    reasons: Mapping[str, str] | None = None,
    *,
    what: str = "cells",
) -> Table:
    """The cells of a suite, whether each has a record, and where any has a forecast, what it will cost.

    Args:
        rows: ((model, method, sparsity, seed), cell id) of each cell.
        records: existing records, by cell id.
        forecasts: existing forecasts, by cell id.
        folder: the results folder, for the caption.
        reasons: why a cell is to be run although there are records of its kind, by cell id.
        what: what they are called in the caption.
    """

    def costs(cell: str) -> tuple[str, ...]:
        forecast = forecasts.get(cell) or Forecast(cell=cell)
        shown = [*map(_seconds, (forecast.prune_seconds, forecast.evaluate_seconds))]
        return (*shown, *map(_size, (forecast.peak_bytes, forecast.disk_bytes)))

    def state(cell: str) -> str:
        if cell in records:
            return records[cell].status
        return f"to run: {reasons[cell]}" if reasons and cell in reasons else "to run"

    remaining = [forecasts[cell] for _, cell in rows if state(cell) != "ok" and cell in forecasts]
    times = [(f.prune_seconds or 0) + (f.evaluate_seconds or 0) for f in remaining]
    total = f"; to run: {text.seconds(sum(times))} and the loading of models" if times else ""
    if disk := sum(f.disk_bytes or 0 for f in remaining):
        total += f", {text.size(disk)} of disk"
    done = sum(state(cell) == "ok" for _, cell in rows)
    foretold = any(cell in forecasts for _, cell in rows)
    headers = ("prune", "measure", "peak memory", "disk") if foretold else ()
    return Table(
        f"{text.counted(len(rows), what.removesuffix('s'))}, {done} already in {folder}{total}",
        ("model", "method", "sparsity", "seed", "record", *headers),
        tuple((*names, state(cell), *(costs(cell) if foretold else ())) for names, cell in rows),
    )


def forecast_tables(scenes: Sequence[Scene], forecasts: Mapping[str, Forecast]) -> list[Table]:
    """The ratio forecast / measured by model and method, as a range, and the share of cells that were forecast well.

    Args:
        scenes: see ``prunebench.report.scenes.Scenes.settings``.
        forecasts: forecasts by cell id.
    """
    by_method: dict[tuple[str, str], dict[str, tuple[Record, Forecast]]] = {}
    for scene in scenes:
        for record in scene.succeeded().records:
            if (name := record.cell.id) in forecasts:  # a dense model stands in each setting, and counts once
                by_method.setdefault((scene.model, record.cell.method), {})[name] = record, forecasts[name]
    if not by_method:
        return []
    pairs = [pair for cells in by_method.values() for pair in cells.values()]
    times = [ratio for pair in pairs if (ratio := _time_ratio(*pair)) is not None]
    peaks = [ratio for pair in pairs if (ratio := _peak_ratio(*pair)) is not None]
    rows = [
        (
            *key,
            str(len(cells)),
            _range([_ratio(f.prune_seconds, r.cost.prune_seconds) for r, f in cells.values()]),
            _range([_ratio(f.evaluate_seconds, r.cost.evaluate_seconds) for r, f in cells.values()]),
            _range([_time_ratio(*pair) for pair in cells.values()]),
            _range([_peak_ratio(*pair) for pair in cells.values()]),
        )
        for key, cells in by_method.items()
    ]
    return [
        Table(
            f"Foretold / measured; time within {TIME_TOLERANCE:.0%} for {_share_within(times, TIME_TOLERANCE)} cells, "
            f"memory within {MEMORY_TOLERANCE:.0%} for {_share_within(peaks, MEMORY_TOLERANCE)}",
            ("model", "method", "cells", "prune", "measure", "both", "peak memory"),
            tuple(rows),
        )
    ]


def _seconds(value: float | None) -> str:
    return text.MISSING if value is None else text.seconds(value)


def _size(value: float | None) -> str:
    return text.MISSING if value is None else text.size(value)


def _ratio(forecast: float | None, measured: float | None) -> float | None:
    return forecast / measured if forecast is not None and measured else None


def _time_ratio(record: Record, forecast: Forecast) -> float | None:
    """Forecast / measured time of pruning and evaluation together."""
    parts = (forecast.prune_seconds, forecast.evaluate_seconds, record.cost.prune_seconds, record.cost.evaluate_seconds)
    if any(part is None for part in parts):
        return None
    known = [part for part in parts if part is not None]
    return _ratio(known[0] + known[1], known[2] + known[3])


def _peak_ratio(record: Record, forecast: Forecast) -> float | None:
    return _ratio(forecast.peak_bytes, record.cost.peak_bytes)


def _range(ratios: Iterable[float | None]) -> str:
    return text.span(ratios, "{:.2f}".format)


def _share_within(ratios: Sequence[float], tolerance: float) -> str:
    return f"{sum(abs(ratio - 1) <= tolerance for ratio in ratios)} of {len(ratios)}"
