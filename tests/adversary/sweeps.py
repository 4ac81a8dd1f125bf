"""Sweeps over cheats through the real processes, and what must be the same afterwards."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from prunebench.records.record import Record
from prunebench.records.store import read_arrays
from prunebench.registry.reading import PluginFiles
from prunebench.runner.isolated import Isolated
from prunebench.runner.run_cell import Limits
from prunebench.runner.sweep import run_suite
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan
from tests.helpers.observers import SilentDisplay

MARK = "CHEATS_SWEEP"


def sweep(
    suite: Path, plugins: Sequence[Path], output: Path, limits: Limits | None = None, *, verify: bool = False
) -> dict[str, Record]:
    """Run a suite in processes of their own; the records by method. No process is left, and no plugin imported here."""
    here, mark = Path.cwd(), secrets.token_hex(8)
    os.environ[MARK] = mark  # which all processes of this sweep inherit, and those of others have not
    try:
        with Isolated(limits) as executor:
            files = PluginFiles(plugins, executor)
            cells = plan(load_suite(suite, plugin_files=files), plugin_files=files)
            assert "CHEATS_IMPORTED_HERE" not in os.environ  # which the files would have set
            found = run_suite(cells, output, SilentDisplay(), executor=executor, verify=verify)
    finally:
        del os.environ[MARK]
    assert Path.cwd() == here
    assert not [process for process in psutil.process_iter() if _is_left(process, mark)]
    return {record.cell.method: record for record in found}


def _is_left(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def same_figures(one: Record, other: Record, output: Path) -> bool:
    """Digest, zeros, perplexity and the loss of each sequence."""
    arrays = [read_arrays(output / f"{record.cell.id}.json") for record in (one, other)]
    return (
        one.environment["weights_digest"] == other.environment["weights_digest"]
        and one.sparsity == other.sparsity
        and one.perplexity == other.perplexity
        and arrays[0].keys() == arrays[1].keys()
        and all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])
    )
