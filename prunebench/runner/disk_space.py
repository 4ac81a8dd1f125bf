"""Whether the disk has room for models that are worked on there, told before anything runs."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from prunebench.errors import OutputError
from prunebench.models.loading import load_skeleton
from prunebench.models.source import weight_bytes
from prunebench.runner.resources import Resources
from prunebench.suite.cell import Cell


def check_room(cells: Iterable[Cell], resources: Resources, output: Path, *, save_models: bool) -> None:
    """Refuse a sweep whose models on disk would fill it.

    Args:
        cells: what is to run; those in memory need nothing here.
        resources: prepared for them.
        output: the results folder.
        save_models: whether pruned models stay, in both forms.

    Raises:
        OutputError: the disk has less room than they need.
    """
    cells = [cell for cell in cells if cell.device == "disk"]
    if not cells:
        return
    models = {cell.model_digest: resources.model(cell) for cell in cells}
    widths = {
        digest: int(load_skeleton(model).config.get_text_config().hidden_size) for digest, model in models.items()
    }
    needed = max(_work_bytes(cell, resources, widths[cell.model_digest]) for cell in cells)
    if save_models:
        needed += 2 * sum(weight_bytes(resources.model(cell), cell.dtype) for cell in cells)
    available = shutil.disk_usage(output).free
    if needed > available:
        raise OutputError(
            f"models on disk need {needed:,} bytes under {output}, whose disk has {available:,}: make room there, or "
            f"choose a folder on another disk with --output{', or leave out --save-models' if save_models else ''}"
        )


def _work_bytes(cell: Cell, resources: Resources, width: int) -> int:
    """The most that one cell has on disk while it runs: its blocks once more, and hidden states of a text."""
    texts = [cell.calibration.nsamples * cell.calibration.seqlen]
    texts += [evaluation.bound().tokens_on_disk(**resources.available(cell)) for evaluation in cell.evaluations]
    size = 2 if cell.dtype in ("bfloat16", "float16") else 4
    return weight_bytes(resources.model(cell), cell.dtype) + max(texts) * width * size
