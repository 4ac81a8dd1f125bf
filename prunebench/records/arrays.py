"""Lazy access to the arrays that belong to the records of a results folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prunebench.records.array_files import parsed_arrays
from prunebench.records.record import Forecast, Record
from prunebench.records.store import read_forecasts

Arrays = Mapping[str, np.ndarray]


class ArrayStore:
    """The arrays and forecasts of a results folder; each file of arrays is read at its first use and cached.

    Args:
        folder: the results folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache: dict[str, Arrays] = {}

    def read(self, record: Record) -> Arrays:
        """The arrays of one record by name; empty if it has none.

        Raises:
            RecordError: the file is missing, truncated or altered.
        """
        name = record.cell.id
        if name not in self._cache:
            self._cache[name] = parsed_arrays(self._folder, record)
        return self._cache[name]

    def forecasts(self) -> dict[str, Forecast]:
        """The forecasts of the folder, by cell id.

        Raises:
            RecordError: the file of forecasts is invalid.
        """
        return read_forecasts(self._folder)
