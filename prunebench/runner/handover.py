"""The hand-over: a pruned model as tensors in a file, written by one process and loaded into a stock model by another.

What is not in the tensors is not in the model that is measured: no attribute, hook, class or configuration passes.
Blocks that lie on disk are handed over where they are, in the files of their store.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunebench.contract.live import names_violation
from prunebench.errors import ContractError, ModelError
from prunebench.models.digest import unique_names
from prunebench.models.offload.block_store import WEIGHTS, CheckpointStore
from prunebench.models.offload.safetensors_io import stream_tensors
from prunebench.pruning.offload import store_of

FILE = "pruned.safetensors"
HEADER = 100 << 20  # bytes of a safetensors file's header, by its specification


def hand_over(model: Any, folder: Path) -> Path:
    """Write every parameter and persistent buffer that is in memory, each once.

    Args:
        model: after pruning.
        folder: the process's own.

    Returns:
        The file.
    """
    tensors = dict(_resident(model))
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    file = folder / FILE
    with file.open("xb") as content:
        stream_tensors(content, layout, ((name, tensor.cpu().contiguous()) for name, tensor in tensors.items()), {})
    return file


def take_over(model: Any, file: Path) -> None:
    """Copy what was handed over into a stock model, tensor by tensor.

    Args:
        model: as it was before pruning, from its trusted source.
        file: from ``hand_over``; the blocks of a model on disk are beside it.

    Raises:
        ContractError: names, dtypes or shapes are not those of the stock model, or the file is none.
    """
    expected = dict(_resident(model))
    try:
        _check_regular(file, sum(tensor.nbytes for tensor in expected.values()) + HEADER)
        with safe_open(file, framework="pt") as content:
            if different := set(content.keys()) ^ expected.keys():
                raise names_violation(different).error
            for name, tensor in expected.items():
                found = content.get_tensor(name)
                if (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
                    raise ContractError(
                        f"{name} was {tensor.dtype} {tuple(tensor.shape)} and is {found.dtype} {tuple(found.shape)}"
                    )
                with torch.no_grad():
                    tensor.copy_(found)
        if isinstance(store := store_of(model), CheckpointStore):
            store.take_over(file.parent / WEIGHTS)
    except (OSError, SafetensorError, ModelError) as error:
        raise ContractError(f"the pruned tensors cannot be read: {error}") from None


def _resident(model: Any) -> Iterator[tuple[str, Tensor]]:
    state = model.state_dict(keep_vars=True)
    return ((name, state[name].detach()) for name in unique_names(model) if not state[name].is_meta)


def _check_regular(file: Path, limit: int) -> None:
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ContractError(f"the pruned tensors are no regular file: {file.name}")
    if status.st_size > limit:
        raise ContractError(f"the pruned tensors take {status.st_size:,} bytes, more than the model's {limit:,}")
