"""What a template reads, and what its children do: one stage of one cell each, or an answer to one question.

Little is imported here, so that a plugin can be asked about before all is there that a cell needs (``cell_stages``).
"""

import faulthandler
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from prunebench.errors import PrunebenchError
from prunebench.models.loading import load_model, load_skeleton
from prunebench.models.source import ModelSource, weight_bytes
from prunebench.runner.processes.teller import Teller, tell_answer
from prunebench.runner.resources import Resources
from prunebench.suite.cell import Cell
from prunebench.suite.reading import answer

SMALL = 64 << 20  # bytes of a model that is loaded once to have all imported and cached that loading needs


def import_everything() -> None:
    """Import what any cell needs, once; no thread pool is made, since none outlives a fork."""
    torch.set_num_threads(1)
    import prunebench.runner.processes.cell_stages  # noqa: F401


def needs_everything(request: dict[str, Any]) -> bool:
    """Whether a child cannot do without what ``import_everything`` imports."""
    return bool(request["stage"] != "read")


def prepare(request: dict[str, Any], resources: Resources) -> None:
    """Read texts and tasks.

    Args:
        request: ``cells``, and of a measuring template ``output`` and ``save_models``.
        resources: takes them.

    Raises:
        UsageError: what does not fit.
    """
    from prunebench.runner.disk_space import check_room

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
    teller = Teller(events)
    torch.set_num_threads(request.get("threads", 1))
    if request["stage"] == "read":  # what is asked of a plugin
        tell_answer(lambda: answer(request["what"], request["asked"]), teller)
    else:
        from prunebench.runner.processes.cell_stages import run

        run(request, teller, resources)
    os._exit(0)
