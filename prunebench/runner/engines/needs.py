"""What a cell will need of a machine: as it was forecast, or else by its weights and what its method changes."""

from collections.abc import Mapping
from dataclasses import dataclass

from prunebench.models.source import bytes_in, find_folder
from prunebench.records.record import Forecast
from prunebench.records.store import read_forecasts
from prunebench.runner.engines.interface import Work
from prunebench.suite.cell import Cell

# Bytes at the peak per byte of the weights. To measure, some logits beside the weights; to prune layer by layer, a
# block's inputs and its statistics too; to train, fp32 masters, gradients and two moments beside weights of 16 bits.
FACTORS = {"nothing": 1.5, "prunable": 2.5, "all": 9.0}


@dataclass(frozen=True)
class Needs:
    """What a cell will need.

    Args:
        gpus: how many.
        gpu_bytes: at its peak; 0 without a GPU.
        host_bytes: of ordinary memory at its peak.
        seconds: its time; None where it was not forecast.
    """

    gpus: int
    gpu_bytes: int
    host_bytes: int
    seconds: float | None


class AllNeeds:
    """What the cells of a sweep will need.

    Args:
        work: the sweep.
    """

    def __init__(self, work: Work) -> None:
        self._forecasts: Mapping[str, Forecast] = read_forecasts(work.output)

    def of(self, cell: Cell) -> Needs:
        """What one cell will need."""
        forecast = self._forecasts.get(cell.id)
        peak = None if forecast is None else forecast.peak_bytes
        weights = 0 if cell.device == "disk" else bytes_in(find_folder(cell.source), cell.dtype)
        if peak is None:
            peak = round(weights * FACTORS[cell.changes])
        times = [] if forecast is None else [forecast.prune_seconds, forecast.evaluate_seconds]
        known = [time for time in times if time is not None]
        seconds = sum(known) if len(known) == 2 else None
        if cell.device == "cuda":
            return Needs(gpus=1, gpu_bytes=peak, host_bytes=weights, seconds=seconds)
        return Needs(gpus=0, gpu_bytes=0, host_bytes=peak, seconds=seconds)
