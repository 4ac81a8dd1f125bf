"""Tensors that a walk over the blocks holds: in memory, or in files where the model itself is larger than memory."""

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

FILE_THRESHOLD = 1 << 20  # bytes beyond which an argument of a call goes into a file


class TensorCache:
    """Tensors by name: in files of a temporary folder for a model whose blocks lie on disk, else in memory.

    Args:
        model: any; the folder, if one is needed, is made in its store's scratch folder and removed with this object.
    """

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

    def put(self, name: str, tensor: Tensor) -> "Tensor | TensorFile":
        """Store a tensor under a name, replacing an earlier one; returns what ``loaded`` reads."""
        return tensor if self._folder is None else TensorFile.write(self._folder / name, tensor)


@dataclass(frozen=True)
class TensorFile:
    """A tensor in a file, as plain bytes in row-major order."""

    path: Path
    dtype: torch.dtype
    shape: torch.Size

    @classmethod
    def write(cls, path: Path, tensor: Tensor) -> "TensorFile":
        """Write a tensor that lies on the CPU."""
        path.write_bytes(tensor_bytes(tensor))
        return cls(path, tensor.dtype, tensor.shape)

    def read(self) -> Tensor:
        """The tensor, in newly allocated memory."""
        return read_tensor(self.path, 0, self.dtype, self.shape)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """A tensor's bytes in row-major order; its own memory where that is contiguous and on the CPU."""
    view: memoryview = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return view


def read_tensor(path: Path, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Read a tensor from a file's bytes.

    The file is read and not mapped: the pages of a mapped file would count as resident memory.

    Args:
        path: the file.
        start: position of the tensor's first byte.
        dtype, shape: of the tensor, stored in row-major order.

    Raises:
        OSError: the file cannot be read, or is too short.
    """
    tensor = torch.empty(shape, dtype=dtype)
    unread = tensor_bytes(tensor)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while unread.nbytes and (count := file.readinto(unread)):  # one call reads 2 GiB at most
            unread = unread[count:]
    if unread.nbytes:
        raise OSError(f"{path} ends {unread.nbytes} bytes too early")
    return tensor


def loaded(value: Any) -> Any:
    """``value`` with each ``TensorFile`` in it replaced by its tensor."""
    return _map_instances(value, TensorFile, lambda file: file.read())


def cast(value: Any, before: torch.dtype, after: torch.dtype) -> Any:
    """``value`` with each tensor of dtype ``before`` in it replaced by one of dtype ``after``."""
    return _map_instances(value, Tensor, lambda tensor: tensor.to(after) if tensor.dtype == before else tensor)


class TensorList:
    """A list of tensors in a ``TensorCache``, such as the hidden states of all batches.

    Args:
        cache: where they are stored.
        name: the beginning of their names.
    """

    def __init__(self, cache: TensorCache, name: str) -> None:
        self._cache, self._name = cache, name
        self._items: list[Tensor | TensorFile] = []

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Tensor:
        tensor: Tensor = loaded(self._items[index])
        return tensor

    def __setitem__(self, index: int, tensor: Tensor) -> None:
        self._items[index] = self._cache.put(f"{self._name}.{index}", tensor)

    def append(self, tensor: Tensor) -> None:
        """Add a tensor at the end."""
        self._items.append(self._cache.put(f"{self._name}.{len(self)}", tensor))


class ArgumentCache:
    """The arguments of many calls, of which equal tensors are stored once.

    Args:
        cache: where large tensors are stored.
    """

    def __init__(self, cache: TensorCache) -> None:
        self._cache = cache
        self._tensors: list[Tensor] = []
        self._files: dict[str, Tensor | TensorFile] = {}

    def add(self, value: Any) -> Any:
        """``value`` with each tensor replaced by an equal one that is stored already, or by its file."""
        return _map_instances(value, Tensor, self._add_tensor)

    def _add_tensor(self, value: Tensor) -> Tensor | TensorFile:
        if self._cache.on_disk and value.nbytes > FILE_THRESHOLD:
            digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode() + tensor_bytes(value)).hexdigest()
            if digest not in self._files:
                self._files[digest] = self._cache.put(digest, value)
            return self._files[digest]
        for tensor in self._tensors:
            if tensor is value or (
                tensor.shape == value.shape and tensor.dtype == value.dtype and torch.equal(tensor, value)
            ):
                return tensor
        self._tensors.append(value)
        return value


def _map_instances(value: Any, cls: type, function: Callable[[Any], Any]) -> Any:
    """``value`` with ``function`` applied to each instance of ``cls`` in it, through tuples, lists and dicts."""
    if isinstance(value, cls):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(_map_instances(item, cls, function) for item in value)
    if type(value) is dict:
        return {key: _map_instances(item, cls, function) for key, item in value.items()}
    return value
