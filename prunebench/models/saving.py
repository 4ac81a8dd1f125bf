"""Pruned models on disk: ordinary folders that transformers reads, and the compact form beside them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.errors import OutputError
from prunebench.files import disk_error_advice
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
        model: after pruning, in the dtype it is kept in.
        tokenizer: saved beside it.
        output: the results folder.
        name: the cell's id.
        pattern: that its masks have.

    Returns:
        Bytes of the weights in either form, and the fewest possible.

    Raises:
        OutputError: the folder cannot be written.
    """

    store = store_of(model)

    def dense(folder: Path) -> int:
        if store is not None:
            store.save(folder)
        else:
            with quiet_hub_libraries():
                model.save_pretrained(folder)
        _plain_config(folder)
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def sparse(folder: Path) -> int:
        size = write_sparse(model, folder)
        _plain_config(folder)
        return size

    def both(write: Callable[[Path], int]) -> Callable[[Path], int]:
        def with_tokenizer(folder: Path) -> int:
            size = write(folder)
            tokenizer.save_pretrained(folder)
            return size

        return with_tokenizer

    # The ordinary form last: the files of a model on disk are moved there.
    bound = information_bound(model, (pattern.n, pattern.m) if isinstance(pattern, NM) else None)
    compact = _whole(output / SPARSE_FOLDER / name, both(sparse))
    return SavedFacts(
        dense_bytes=_whole(output / MODELS_FOLDER / name, both(dense)), sparse_bytes=compact, bound_bytes=bound
    )


def is_saved(output: Path, name: str) -> bool:
    """Whether both forms of a cell's model are there."""
    return all((output / form / name / "config.json").is_file() for form in (MODELS_FOLDER, SPARSE_FOLDER))


def _plain_config(folder: Path) -> None:
    """vLLM refuses a checkpoint whose configuration speaks of sparsity; the weights are those of a dense model."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.pop("sparsity_config", None) is not None:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _whole(folder: Path, write: Callable[[Path], int]) -> int:
    """Fill a folder beside the final one and rename it."""
    from safetensors import SafetensorError

    for torn in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a run that was killed
        shutil.rmtree(torn, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        size = write(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot save the model in {folder}: {disk_error_advice(error)}") from None
    except SafetensorError as error:  # which says only in words that the disk is full
        raise OutputError(f"cannot save the model in {folder}: {error}; is there space left?") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size
