"""What a walk keeps between blocks: in memory, or in files where the model itself is not in memory."""

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.pruning.offload import store_of

LARGE = 1 << 20  # bytes beyond which an argument of a call goes into a file


class Shelf:
    """A folder of tensors, gone with this object; without a folder, all stays in memory."""

    def __init__(self, model: nn.Module) -> None:
        store = store_of(model)
        self._folder: Path | None = None
        if store is not None:
            self._folder = Path(tempfile.mkdtemp(prefix="walk.", dir=store.scratch))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def on_disk(self) -> bool:
        """Whether tensors go into files."""
        return self._folder is not None

    def put(self, name: str, tensor: Tensor) -> "Tensor | OnDisk":
        """Keep a tensor under a name; what it was before is replaced."""
        return tensor if self._folder is None else OnDisk.write(self._folder / name, tensor)


@dataclass(frozen=True)
class OnDisk:
    """A tensor in a file, as plain bytes in row-major order."""

    path: Path
    dtype: torch.dtype
    shape: torch.Size

    @classmethod
    def write(cls, path: Path, tensor: Tensor) -> "OnDisk":
        """Write a tensor that lies on the CPU."""
        path.write_bytes(bytes_of(tensor))
        return cls(path, tensor.dtype, tensor.shape)

    def read(self) -> Tensor:
        """The tensor, in memory of its own."""
        return read_tensor(self.path, 0, self.dtype, self.shape)


def bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's bytes in row-major order; its own memory where that is contiguous and on the CPU."""
    view: memoryview = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return view


def read_tensor(path: Path, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """A tensor from a file's bytes, read and not mapped: pages of a mapped file count as resident.

    Raises:
        OSError: the file cannot be read, or is too short.
    """
    tensor = torch.empty(shape, dtype=dtype)
    left = bytes_of(tensor)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while left.nbytes and (count := file.readinto(left)):  # one call reads 2 GiB at most
            left = left[count:]
    if left.nbytes:
        raise OSError(f"{path} ends {left.nbytes} bytes too early")
    return tensor


def fetched(value: Any) -> Any:
    """``value`` with each tensor in a file read."""
    return _mapped(value, OnDisk, lambda tensor: tensor.read())


class Tensors:
    """A list of tensors, such as the hidden states of all batches."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        self._shelf, self._name = shelf, name
        self._items: list[Tensor | OnDisk] = []

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Tensor:
        tensor: Tensor = fetched(self._items[index])
        return tensor

    def __setitem__(self, index: int, tensor: Tensor) -> None:
        self._items[index] = self._shelf.put(f"{self._name}.{index}", tensor)

    def append(self, tensor: Tensor) -> None:
        """Add one at the end."""
        self._items.append(self._shelf.put(f"{self._name}.{len(self)}", tensor))


class Arguments:
    """Arguments of calls, in which equal tensors are kept once."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._kept: list[Tensor] = []
        self._files: dict[str, Tensor | OnDisk] = {}

    def keep(self, value: Any) -> Any:
        """``value`` with each tensor replaced by an equal one that is kept already, or by its file."""
        return _mapped(value, Tensor, self._keep)

    def _keep(self, value: Tensor) -> Tensor | OnDisk:
        if self._shelf.on_disk and value.nbytes > LARGE:
            digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode() + bytes_of(value)).hexdigest()
            if digest not in self._files:
                self._files[digest] = self._shelf.put(digest, value)
            return self._files[digest]
        for tensor in self._kept:
            if tensor is value or (
                tensor.shape == value.shape and tensor.dtype == value.dtype and torch.equal(tensor, value)
            ):
                return tensor
        self._kept.append(value)
        return value


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """``value`` with each ``kind`` in it changed, through tuples, lists and dicts."""
    if isinstance(value, kind):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_mapped(item, kind, change) for item in value)
    if type(value) is dict:
        return {key: _mapped(item, kind, change) for key, item in value.items()}
    return value
