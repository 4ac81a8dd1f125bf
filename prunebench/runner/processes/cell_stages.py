"""What a child of a template does for a cell: it prunes, measures, reads a text or foretells what cells will cost."""

import signal
import sys
import threading
from pathlib import Path
from typing import Any

import lm_eval.models.huggingface
import lm_eval.tasks  # noqa: F401 - here and below: imported in the template, so that no child does it anew
import numpy as np
import scipy.stats  # noqa: F401
import transformers.models.auto.modeling_auto  # noqa: F401
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from prunebench.errors import PrunebenchError
from prunebench.runner.claims import Standing
from prunebench.runner.declared import HandedOver
from prunebench.runner.events import NOTE_LENGTH, EventRecorder
from prunebench.runner.forecast import forecast_cells
from prunebench.runner.measure_stage import Measuring, ToMeasure
from prunebench.runner.memory import large_apart
from prunebench.runner.processes.messages import ARRAYS
from prunebench.runner.processes.teller import Teller, tell_answer
from prunebench.runner.prune_stage import prune_cell
from prunebench.runner.resources import Resources
from prunebench.runner.run_cell import failure_of
from prunebench.runner.saved_state import SavedState, Stopped
from prunebench.suite.cell import Cell


def run(request: dict[str, Any], teller: Teller, resources: Resources) -> None:
    """Do what is asked, and say what came of it.

    Args:
        request: what to do.
        teller: sends it.
        resources: as the template has them.
    """
    if request["stage"] in _QUESTIONS:
        return _QUESTIONS[request["stage"]](request, teller, resources)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    cell = Cell.model_validate(request["cell"])
    folder, belongs, interval = request["saved"]
    saved_state = SavedState(folder and Path(folder), belongs, interval=interval, stop=stop)
    if cell.device == "disk":
        large_apart().__enter__()
    try:
        (_prune if request["stage"] == "prune" else _measure)(request, cell, teller, saved_state, resources)
    except Stopped:
        teller.tell("stopped")
    sys.stderr.flush()


def _write_pool(request: dict[str, Any], teller: Teller, resources: Resources) -> None:
    """Tokenise a calibration text that code of others makes."""
    cell = Cell.model_validate(request["cell"])

    def write() -> dict[str, Any]:
        tensors = resources.pool_tensors(cell)
        resources.take_pool(cell, tensors)
        resources.prepare_pruning([cell])
        save_tensors(tensors, request["file"])
        return {}

    tell_answer(write, teller)


def _forecast(request: dict[str, Any], teller: Teller, resources: Resources) -> None:
    """Foretell what cells will cost."""
    cells = [Cell.model_validate(cell) for cell in request["cells"]]
    resources.output = Path(request["output"])

    def forecast() -> dict[str, Any]:
        resources.prepare(cells)
        options = {"seconds": request["seconds"], "save_models": request["save_models"]}
        found = forecast_cells(cells, resources, **options, tell=lambda line: teller.note(line[:NOTE_LENGTH], {}))
        return {"forecasts": [forecast.model_dump() for forecast in found]}

    tell_answer(forecast, teller)


_QUESTIONS = {"pool": _write_pool, "forecast": _forecast}


def _prune(request: dict[str, Any], cell: Cell, teller: Teller, saved_state: SavedState, resources: Resources) -> None:
    events = EventRecorder(teller)
    try:
        before = request["before"] and HandedOver.model_validate(request["before"])
        declared = prune_cell(cell, resources, events, saved_state, Path(request["work"]), teller.tell, before)
    except Stopped:
        raise
    except BaseException as error:  # a plugin may raise anything
        teller.tell("failed", _failed(error, events))
    else:
        teller.tell("pruned", declared.model_dump())


def _measure(
    request: dict[str, Any], cell: Cell, teller: Teller, saved_state: SavedState, resources: Resources
) -> None:
    work = Path(request["work"])
    measuring = Measuring(cell, resources, teller, saved_state, work)
    failed: dict[str, Any] | None = None
    try:
        if request["prepare"]:
            resources.prepare_measuring([cell], ours=False)
            teller.tell("measured", {"found": measuring.outcome().model_dump(), "failed": None})
            return
        claim = request["claim"]
        fence = claim and Standing(Path(claim["path"]), claim["content"])
        asked = ToMeasure.model_validate(request["asked"])
        measuring.run(HandedOver.model_validate(request["handed"]), asked, fence)
    except Stopped:
        raise
    except PrunebenchError as error:
        if request["prepare"]:
            teller.tell("refused", type(error).__name__, str(error))
            return
        failed = failure_of(error).model_dump()
    except BaseException as error:
        failed = failure_of(error).model_dump()
    arrays = {name: np.ascontiguousarray(array) for name, array in measuring.arrays.items()}
    save_file(arrays, work / ARRAYS)
    found = measuring.outcome().model_dump()
    teller.tell("measured", {"found": found, "failed": failed, "arrays": list(arrays)})


def _failed(error: BaseException, events: EventRecorder) -> dict[str, Any]:
    return {"failure": failure_of(error).model_dump(), "notes": dict(events.notes), "trace": events.rows}
