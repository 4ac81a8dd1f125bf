"""Saving pruned models: as ordinary folders that transformers reads, and in the compact form beside them."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.errors import OutputError
from prunebench.files import describe_os_error
from prunebench.models.sparse import information_bound, write_sparse
from prunebench.pruning import NM, Pattern
from prunebench.pruning.offload import store_of
from prunebench.quiet import quiet_hub_libraries
from prunebench.records.record import MODELS_FOLDER, SPARSE_FOLDER, SavedFacts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_checkpoints(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", output: Path, name: str, pattern: Pattern
) -> SavedFacts:
    """Write ``models/<name>/`` and ``sparse/<name>/`` into a results folder; each all or nothing.

    Args:
        model: after pruning, in the dtype in which it is saved.
        tokenizer: saved beside it.
        output: the results folder.
        name: the cell's id.
        pattern: of the model's masks.

    Returns:
        Bytes of the weights in either form, and the fewest possible.

    Raises:
        OutputError: the folder cannot be written.
    """
    store = store_of(model)

    def write_dense(folder: Path) -> int:
        if store is not None:
            store.save(folder)
        else:
            with quiet_hub_libraries():
                model.save_pretrained(folder)
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def save(folder: Path, write: Callable[[Path], int]) -> int:
        def write_all(temporary: Path) -> int:
            size = write(temporary)
            tokenizer.save_pretrained(temporary)
            _finish_config(temporary, model)
            return size

        return _write_folder_atomically(folder, write_all)

    bound = information_bound(model, (pattern.n, pattern.m) if isinstance(pattern, NM) else None)
    # The ordinary form comes last: the files of a model on disk are moved into it.
    compact = save(output / SPARSE_FOLDER / name, partial(write_sparse, model))
    dense = save(output / MODELS_FOLDER / name, write_dense)
    return SavedFacts(dense_bytes=dense, sparse_bytes=compact, bound_bytes=bound)


def is_saved(output: Path, name: str) -> bool:
    """Whether both forms of a cell's model exist in a results folder."""
    return all((output / form / name / "config.json").is_file() for form in (MODELS_FOLDER, SPARSE_FOLDER))


def _finish_config(folder: Path, model: "PreTrainedModel") -> None:
    """Make a saved folder load by itself: its configuration names no code that is not there.

    Code of the model's own is copied from where it was loaded; a stock class needs none, so that its ``auto_map`` goes.
    ``sparsity_config`` goes too: vLLM refuses it, and the weights are stored as dense.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    unwanted = {"sparsity_config"}
    if type(model).__module__.startswith("transformers_modules."):
        for code in Path(model.config.name_or_path).glob("*.py"):
            shutil.copyfile(code, folder / code.name)
    else:
        unwanted.add("auto_map")
    if unwanted & config.keys():
        rest = {key: value for key, value in config.items() if key not in unwanted}
        path.write_text(json.dumps(rest, indent=2) + "\n", encoding="utf-8")


def _write_folder_atomically(folder: Path, write: Callable[[Path], int]) -> int:
    """Let ``write`` fill a temporary folder beside the final one, then rename it; returns what ``write`` does."""
    from safetensors import SafetensorError

    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        size = write(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot save the model in {folder}: {describe_os_error(error)}") from None
    except SafetensorError as error:  # raised, without an error number, when the disk is full
        raise OutputError(f"cannot save the model in {folder}: {error}; is there space left?") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size
