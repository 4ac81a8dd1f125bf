"""The digest of a model's weights, and the names under which its tensors are counted once."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def unique_names(model: "PreTrainedModel") -> list[str]:
    """Names of parameters and persistent buffers, sorted; of several names for one tensor the alphabetically first."""
    names: dict[int, str] = {}
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        names.setdefault(id(tensor), name)
    return list(names.values())


def weights_digest(model: "PreTrainedModel") -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of every parameter and persistent buffer.

    The same on any device; a tensor that has several names counts once, under the alphabetically first.
    """
    import torch

    from prunebench.pruning.offload import resident_tensors

    digest = hashlib.sha256()
    for name, tensor in resident_tensors(model, unique_names(model)):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
