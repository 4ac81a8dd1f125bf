"""What a template reads, and what its children do: one stage of one cell each."""

import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as save_tensors

from prunebench.errors import PrunebenchError
from prunebench.models.loading import load_model, load_skeleton
from prunebench.models.source import ModelSource, weight_bytes
from prunebench.runner.claims import Standing
from prunebench.runner.declared import sparsity_of
from prunebench.runner.disk_space import check_room
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
from prunebench.suite.reading import answer

SMALL = 64 << 20  # bytes of a model that is loaded once to have all imported and cached that loading needs


def import_everything() -> None:
    """Import what any cell needs, once; no thread pool is made, since none outlives a fork."""
    torch.set_num_threads(1)
    import lm_eval.models.huggingface
    import lm_eval.tasks  # noqa: F401
    import scipy.stats  # noqa: F401
    import transformers.models.auto.modeling_auto  # noqa: F401


def prepare(request: dict[str, Any], resources: Resources) -> None:
    """Read texts and tasks.

    Args:
        request: ``cells``, and of a measuring template ``output`` and ``save_models``.
        resources: takes them.

    Raises:
        UsageError: what does not fit.
    """
    cells = [Cell.model_validate(cell) for cell in request["cells"]]
    if "output" not in request:
        for cell in {cell.model_digest: cell for cell in cells if not cell.trust_remote_code}.values():
            with suppress(PrunebenchError):  # the cell itself will say so
                _warm_up(resources.model(cell))
        for cell, file in zip(cells, request.get("pools", ()), strict=False):
            resources.take_pool(cell, load_file(file))
        resources.prepare_pruning(cells)
        return
    resources.prepare_measuring(cells, others=False)
    check_room(cells, resources, Path(request["output"]), save_models=request["save_models"])


def _warm_up(model: ModelSource) -> None:
    """Import the code of a model's architecture, which every child would else do anew."""
    if weight_bytes(model, "float32") <= SMALL:
        load_model(model, dtype="float32", device="cpu")
    else:
        load_skeleton(model)


def run_stage(request: dict[str, Any], events: int, resources: Resources) -> None:
    """Be the child: run one stage, say what came of it, and end.

    Args:
        request: what to do.
        events: the descriptor that takes events.
        resources: as the template has them.
    """
    faulthandler.enable(all_threads=False)
    teller, stop = Teller(events), threading.Event()
    torch.set_num_threads(request.get("threads", 1))
    if request["stage"] in _QUESTIONS:
        _QUESTIONS[request["stage"]](request, teller, resources)
        os._exit(0)
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
    os._exit(0)


def _read(request: dict[str, Any], teller: Teller, resources: Resources) -> None:
    """Say what is asked of a plugin."""
    tell_answer(lambda: answer(request["what"], request["asked"]), teller)


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


_QUESTIONS = {"read": _read, "pool": _write_pool, "forecast": _forecast}


def _prune(request: dict[str, Any], cell: Cell, teller: Teller, saved_state: SavedState, resources: Resources) -> None:
    events = EventRecorder(teller)
    try:
        declared = prune_cell(
            cell, resources, events, saved_state, Path(request["work"]), lambda layers: teller.tell("allocated", layers)
        )
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
        measuring.run(Path(request["file"]), sparsity_of(cell, request["layers"]), asked, fence)
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
