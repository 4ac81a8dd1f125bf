"""Safetensors files: the locations of their tensors, and writing a file one tensor at a time."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from prunebench.files import atomic_replacement
from prunebench.pruning.buffers import tensor_bytes

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorLocation(NamedTuple):
    """The location of a tensor: its file and first byte, its dtype and shape; in the order of ``read_tensor``."""

    path: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def tensor_locations(file: Path) -> dict[str, TensorLocation]:
    """The location of each tensor of a safetensors file, by name.

    Raises:
        KeyError: a tensor is of a dtype that ``DTYPES`` lacks.
    """
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        header: dict[str, Any] = json.loads(content.read(length))
    header.pop("__metadata__", None)
    return {
        name: TensorLocation(file, 8 + length + entry["data_offsets"][0], DTYPES[entry["dtype"]], tuple(entry["shape"]))
        for name, entry in header.items()
    }


def write_tensors(
    file: Path,
    layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
) -> int:
    """Write a safetensors file, all or nothing.

    Args:
        file: the file to write.
        layout: dtype and shape of each tensor by name; only its order decides the positions of tensors in the file.
        tensors: the tensors, in any order, each needed only until the next is asked for.
        metadata: stored in the header.

    Returns:
        Bytes of the file.
    """
    with atomic_replacement(file) as temporary, temporary.open("wb") as content:
        return stream_tensors(content, layout, tensors, metadata)


def stream_tensors(
    content: BinaryIO,
    layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
) -> int:
    """Write a safetensors file to an open one; see ``write_tensors``."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    starts, end = {}, 0
    # Large elements first, so that every tensor starts at a multiple of its element's size.
    for name, (dtype, shape) in sorted(layout.items(), key=lambda item: -item[1][0].itemsize):
        starts[name] = end
        end += math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [starts[name], end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    content.write(len(text).to_bytes(8, "little") + text)
    for name, tensor in tensors:
        assert (tensor.dtype, tuple(tensor.shape)) == layout[name], name
        content.seek(8 + len(text) + starts.pop(name))
        content.write(tensor_bytes(tensor))
    assert not starts, starts
    return 8 + len(text) + end
