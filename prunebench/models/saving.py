"""Saving pruned models: as ordinary folders that transformers reads, and in the compact form beside them."""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.errors import OutputError, RecordError
from prunebench.files import (
    Abandoned,
    Fence,
    describe_os_error,
    discard_tree,
    irregular,
    make_folder,
    sync_file,
    sync_folder,
)
from prunebench.models.sparse import information_bound, write_sparse
from prunebench.pruning import NM, Pattern
from prunebench.pruning.offload import store_of
from prunebench.quiet import quiet_hub_libraries
from prunebench.records.record import MODELS_FOLDER, SPARSE_FOLDER, Record, SavedFacts, SavedForm
from prunebench.records.saved_models import files_in, folder_digest, whole_models
from prunebench.records.saved_models import is_saved as is_saved
from prunebench.records.store import read_record

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_checkpoints(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    output: Path,
    name: str,
    pattern: Pattern,
    *,
    fence: Fence | None = None,
) -> SavedFacts:
    """Write both forms of a model into a results folder, flushed to disk; the model of an earlier record stays.

    The forms are ``models/<name>/`` and ``sparse/<name>/``; where the cell's record has a model of that name already,
    ``<name>.<part of the digest>``. The new ones count once a record names them, which then removes the old.

    Args:
        model: after pruning, in the dtype in which it is saved.
        tokenizer: saved beside it.
        output: the results folder.
        name: the cell's id.
        pattern: of the model's masks.
        fence: asked before anything that is there is removed or replaced.

    Returns:
        Bytes of the weights in either form, the fewest possible, and where the forms are.

    Raises:
        OutputError: the folder cannot be written.
        Abandoned: the fence said no.
    """
    store = store_of(model)
    in_use = whole_models(output, _current_record(output, name))

    def write_dense(folder: Path) -> int:
        if store is not None:
            store.save(folder)
        else:
            with quiet_hub_libraries():
                model.save_pretrained(folder)
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def save(form: str, write: Callable[[Path], int]) -> tuple[int, SavedForm]:
        def write_all(temporary: Path) -> int:
            size = write(temporary)
            tokenizer.save_pretrained(temporary)
            _finish_config(temporary, model)
            return size

        return _write_folder(output / form, name, write_all, in_use.get(form), fence)

    bound = information_bound(model, (pattern.n, pattern.m) if isinstance(pattern, NM) else None)
    # The ordinary form comes last: the files of a model on disk are moved into it.
    compact, sparse = save(SPARSE_FOLDER, partial(write_sparse, model))
    dense, ordinary = save(MODELS_FOLDER, write_dense)
    return SavedFacts(
        dense_bytes=dense, sparse_bytes=compact, bound_bytes=bound, forms={"models": ordinary, "sparse": sparse}
    )


def _current_record(output: Path, name: str) -> Record | None:
    try:
        return read_record(output / f"{name}.json")
    except RecordError:
        return None


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


def _write_folder(
    parent: Path, name: str, write: Callable[[Path], int], in_use: str | None, fence: Fence | None
) -> tuple[int, SavedForm]:
    """Let ``write`` fill a temporary folder, flush it, and rename it to a name that no record uses.

    Args:
        parent: ``models/`` or ``sparse/`` of a results folder.
        name: the cell's id.
        write: fills a folder; returns the bytes of its weights.
        in_use: the name that the cell's record has for its model.
        fence: asked before what an interrupted attempt left is removed, and immediately before the renaming.

    Returns:
        What ``write`` does, and the folder with its digest.
    """
    from safetensors import SafetensorError

    temporary = parent / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        if kind := irregular(parent, folder=True):
            raise OSError(0, f"{parent} is {kind}; remove it")
        if fence is not None and not fence():  # what is left there is another's, which may be at work
            raise Abandoned
        for leftover in parent.glob(f".{name}.*.tmp"):  # of a run that was killed
            discard_tree(leftover)
        make_folder(temporary)
        size = write(temporary)
        _sync_all(temporary)
        digest = folder_digest(temporary)
        target = parent / name
        if in_use == name:
            if _has_digest(target, digest):
                return size, SavedForm(folder=name, digest=digest)
            target = parent / f"{name}.{digest[:16]}"
        if fence is not None and not fence():
            raise Abandoned
        if os.path.lexists(target):  # of an attempt that was interrupted before its record was written
            target.rename(old := parent / f".{name}.{secrets.token_hex(4)}.tmp")
            discard_tree(old)
        temporary.rename(target)
        sync_folder(parent)
    except OSError as error:
        raise OutputError(f"cannot save the model in {parent / name}: {describe_os_error(error)}") from None
    except SafetensorError as error:  # raised, without an error number, when the disk is full
        raise OutputError(f"cannot save the model in {parent / name}: {error}; is there space left?") from None
    finally:
        discard_tree(temporary)
    return size, SavedForm(folder=target.name, digest=digest)


def _sync_all(folder: Path) -> None:
    files = files_in(folder)
    for file in files:
        sync_file(file)
    for place in sorted({file.parent for file in files} | {folder}, reverse=True):
        sync_folder(place)


def _has_digest(folder: Path, digest: str) -> bool:
    try:
        return irregular(folder, folder=True) is None and folder_digest(folder) == digest
    except OSError:
        return False
