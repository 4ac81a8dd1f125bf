"""What a worker does with a cell: it claims it, runs it, and its record is written by whoever holds the claim."""

import time
from contextlib import suppress

from prunebench.files import discard_tree
from prunebench.records.quarantine import successful_record
from prunebench.records.record import MODELS_FOLDER, SPARSE_FOLDER
from prunebench.records.store import refuse_irregular
from prunebench.runner.claims import Abandoned, Claim
from prunebench.runner.engines.interface import Executor, Work
from prunebench.runner.saved_state import FOLDER as PARTIAL
from prunebench.runner.saved_state import SavedState
from prunebench.suite.cell import Cell


class ClaimedCells:
    """The cells that one worker runs, one at a time.

    Args:
        work: the sweep.
        executor: runs a cell; by default that of the sweep.
    """

    def __init__(self, work: Work, executor: Executor | None = None) -> None:
        self._work, self._executor = work, executor or work.executor
        # Files that runners were writing when the sweep began; of a cell that is claimed, those of a dead one.
        self._torn = list(work.output.glob(".*.tmp"))

    def run(self, name: str, *, retry: bool = False) -> None:
        """Run a cell, unless another runner has it, or has written its record since the sweep began.

        Args:
            name: the cell's id.
            retry: whether an attempt of this sweep was lost. Then what it kept is not discarded, be the sweep
                ``fresh``, and its claim is waited for, which may need a lease to be void.

        Raises:
            OutputError: the folder cannot be written.
        """
        until = time.monotonic() + (2 * self._work.lease if retry else 0)
        while True:
            with self._work.claims.held(name) as claim:
                if self._work.store.written_since(name, self._work.before[name]) is not None:
                    return
                if claim is not None:
                    return self._run(self._work.cells[name], claim, anew=self._work.fresh and not retry)
            if time.monotonic() >= until:
                return
            time.sleep(min(self._work.lease / 4, 1.0))

    def _run(self, cell: Cell, claim: Claim, *, anew: bool) -> None:
        output = self._work.output
        refuse_irregular(output / PARTIAL, [cell.id], inside=True)
        successful_record(output, cell.id)  # sets one aside that is not whole
        # Of a holder that was stopped these are taken away after the claim is made: it cannot rename them any more.
        for path in output.glob(".*.tmp") if claim.took_over else self._torn:
            if path.name.startswith(f".{cell.id}."):
                path.unlink(missing_ok=True)
        for folder in (MODELS_FOLDER, SPARSE_FOLDER) if claim.took_over else ():  # nor a model
            for path in (output / folder).glob(f".{cell.id}.*.tmp"):
                discard_tree(path)
        if anew:
            SavedState.of(output, cell).remove()
        display = self._work.begin(cell.id)
        options = {"save_models": self._work.save_models, "verify": self._work.verify}
        with suppress(Abandoned):  # another runner has taken it over meanwhile
            self._executor.run(cell, output, display, wanted=claim, **options)
