"""The compact form of a pruned model on disk: a bit for every weight, and the values of the weights that are kept.

A folder in this form holds the model's ``config.json``, its tokenizer, and ``sparse.safetensors``, an ordinary
safetensors file in which

* a tensor that becomes smaller is stored as ``<name>:mask``, uint8, (⌈numel / 8⌉,): bit i mod 8 of byte i div 8, the
  lowest bit first, is 1 where element i in row-major order is kept; and ``<name>:values``, (kept,), in the tensor's
  own dtype, in the same order;
* every other tensor is stored unchanged under its own name; one that has several names (a tied head) only under the
  alphabetically first;
* the metadata are ``format`` "prunebench-sparse", ``version`` "1", and ``shapes``, the JSON of {name: shape} of the
  tensors stored by mask and values.

A weight is "kept" if any of its bits is set: a negative zero is, so that the model is restored bit for bit. Nothing
here imports torch until it is called.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.errors import ModelError, first_line
from prunebench.models.architecture import auto_class
from prunebench.models.digest import unique_names

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

FILE = "sparse.safetensors"
FORMAT, VERSION = "prunebench-sparse", "1"


def encode(tensor: "Tensor") -> "tuple[Tensor, Tensor]":
    """Mask (uint8, packed) and kept values of a tensor, both on the CPU; the module's docstring has the layout."""
    import numpy as np
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    kept = _bits(flat) != 0
    return torch.from_numpy(np.packbits(kept.numpy(), bitorder="little")), flat[kept].clone()


def decode(mask: "Tensor", values: "Tensor", shape: tuple[int, ...]) -> "Tensor":
    """The tensor that ``encode`` turned into mask and values.

    Args:
        mask: uint8, (⌈numel / 8⌉,).
        values: (kept,).
        shape: of the tensor.

    Raises:
        ModelError: mask, values and shape do not fit each other.
    """
    import numpy as np
    import torch

    numel = math.prod(shape)
    kept = torch.from_numpy(np.unpackbits(mask.numpy(), bitorder="little").astype(bool))
    if len(mask) != -(-numel // 8) or int(kept.sum()) != len(values) or kept[numel:].any():
        raise ModelError(f"a mask of {int(kept.sum())} weights does not fit {len(values)} values of shape {shape}")
    flat = torch.zeros(numel, dtype=values.dtype)
    flat[kept[:numel]] = values
    return flat.view(shape)


def _bits(flat: "Tensor") -> "Tensor":
    """The elements' bits as integers of the same size."""
    import torch

    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return flat.view(integers[flat.dtype.itemsize])


def _count_kept(tensor: "Tensor") -> int:
    return int((_bits(tensor.detach().cpu().contiguous().reshape(-1)) != 0).sum())


def write_sparse(model: "PreTrainedModel", folder: Path) -> int:
    """Write ``sparse.safetensors`` and ``config.json`` into a folder.

    Args:
        model: saved in its own dtype.
        folder: an existing one.

    Returns:
        Bytes of ``sparse.safetensors``.
    """
    import torch

    from prunebench.models.offload.safetensors_io import write_tensors
    from prunebench.pruning.offload import resident_tensors

    names = unique_names(model)
    layout: dict[str, Any] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in resident_tensors(model, names):
        packed, kept = -(-tensor.numel() // 8), _count_kept(tensor)
        if tensor.dim() >= 2 and packed + kept * tensor.dtype.itemsize < tensor.nbytes:
            layout |= {f"{name}:mask": (torch.uint8, (packed,)), f"{name}:values": (tensor.dtype, (kept,))}
            shapes[name] = list(tensor.shape)
        else:
            layout[name] = (tensor.dtype, tuple(tensor.shape))

    def tensors() -> "Iterator[tuple[str, Tensor]]":
        for name, tensor in resident_tensors(model, names):
            if name in shapes:
                yield from zip((f"{name}:mask", f"{name}:values"), encode(tensor), strict=True)
            else:
                yield name, tensor

    metadata = {"format": FORMAT, "version": VERSION, "shapes": json.dumps(shapes)}
    write_tensors(folder / FILE, layout, tensors(), metadata)
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    return (folder / FILE).stat().st_size


def load_sparse(folder: str | Path) -> "PreTrainedModel":
    """Load a model from the compact form that ``prunebench run --save-models`` writes.

    Args:
        folder: holds ``config.json`` and ``sparse.safetensors``.

    Returns:
        The dense model on the CPU, in eval mode, bit-identical to the one that was saved.

    Raises:
        ModelError: the folder holds no such model, or a damaged one.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, GenerationConfig

    folder = Path(folder)
    try:
        tensors = read_tensors(folder / FILE)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = first_line(error)
        raise ModelError(f"{folder} holds no whole sparse model ({FILE} and config.json): {reason}") from error
    with torch.random.fork_rng(devices=[]):
        model: PreTrainedModel = auto_class(config).from_config(config, dtype=config.dtype)
    state = dict(model.state_dict(keep_vars=True))
    for name, tensor in tensors.items():
        if name not in state or (state[name].shape, state[name].dtype) != (tensor.shape, tensor.dtype):
            raise ModelError(f"{folder / FILE} holds {name} {tuple(tensor.shape)}, which config.json has no place for")
        state[name].data.copy_(tensor)
    filled = {id(state[name]) for name in tensors}
    if missing := sorted(name for name, tensor in state.items() if id(tensor) not in filled):
        raise ModelError(f"{folder / FILE} lacks {len(missing)} tensors of the model, {missing[0]} for one")
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model.eval()


def read_tensors(file: Path) -> "dict[str, Tensor]":
    """The tensors of a compact file by name, those stored by mask and values decoded.

    Raises:
        ValueError: the file is of another format, or its masks and values do not fit (``ModelError``).
        OSError: it cannot be read; safetensors raises its own type for a damaged one.
    """
    from safetensors import safe_open

    with safe_open(file, framework="pt") as content:
        metadata = content.metadata() or {}
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"its format is {metadata.get('format')!r} version {metadata.get('version')!r}")
        shapes: dict[str, list[int]] = json.loads(metadata["shapes"])
        parts = {f"{name}:{part}" for name in shapes for part in ("mask", "values")}
        tensors = {name: content.get_tensor(name) for name in content.keys() if name not in parts}  # noqa: SIM118
        for name, shape in shapes.items():
            mask, values = (content.get_tensor(f"{name}:{part}") for part in ("mask", "values"))
            tensors[name] = decode(mask, values, tuple(shape))
    return tensors


def information_bound(model: "PreTrainedModel", n_of_m: tuple[int, int] | None = None) -> int:
    """Fewest bytes that can encode a pruned model's masks and kept values, the values uncompressed.

    A matrix with k of N weights kept has one of C(N, k) masks, log₂ of which is the entropy of the mask where nothing
    else is known of it; with n of every m kept, log₂ C(m, n) bits for each group.

    Args:
        model: after pruning.
        n_of_m: (n, m) where the masks are known to be of that pattern; else None.
    """
    from prunebench.pruning.offload import resident_tensors

    total = 0.0
    for _, tensor in resident_tensors(model, unique_names(model)):
        numel, kept = tensor.numel(), _count_kept(tensor)
        bits = (math.lgamma(numel + 1) - math.lgamma(kept + 1) - math.lgamma(numel - kept + 1)) / math.log(2)
        if n_of_m is not None and tensor.dim() >= 2 and kept < numel:
            n, m = n_of_m
            if kept <= numel * n / m:
                bits = min(bits, numel / m * math.log2(math.comb(m, n)))
        total += min(bits / 8 + kept * tensor.dtype.itemsize, tensor.nbytes)
    return math.ceil(total)
