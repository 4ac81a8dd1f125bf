"""The arrays beside records, read when they are asked for."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prunebench.records.record import Forecast, Record
from prunebench.records.store import read_arrays, read_forecasts

Arrays = Mapping[str, np.ndarray]


class Evidence:
    """The arrays and forecasts beside the records of a folder, each file read once and only when asked for.

    Args:
        folder: the results folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Arrays] = {}

    def of(self, record: Record) -> Arrays:
        """The arrays of one record; empty where none were kept.

        Raises:
            RecordError: the file is torn, altered or foreign.
        """
        name = record.cell.id
        if name not in self._read:
            self._read[name] = read_arrays(self._folder / f"{name}.json", record.arrays_digest)
        return self._read[name]

    def forecasts(self) -> dict[str, Forecast]:
        """What was foretold of the cells, by their ids.

        Raises:
            RecordError: the file is not one of forecasts.
        """
        return read_forecasts(self._folder)
