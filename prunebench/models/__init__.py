"""Models: found, loaded, hashed and saved; in memory, or block by block where they are larger than memory.

``source`` finds a model and checks its files, ``loading`` loads it, ``digest`` hashes its weights, ``saving`` and
``sparse`` write a pruned one, and ``offload`` holds the blocks of a model on disk. Names are resolved when they are
first used, so that importing this package brings no torch.
"""

from typing import TYPE_CHECKING

from prunebench.lazy import lazy_names

if TYPE_CHECKING:
    from prunebench.models.digest import weights_digest
    from prunebench.models.loading import load_model, load_skeleton, load_tokenizer
    from prunebench.models.saving import is_saved, save_checkpoints
    from prunebench.models.source import ModelSource, context_length, find_model, pick_device, pick_dtype
    from prunebench.models.sparse import load_sparse, write_sparse

__all__ = [
    "ModelSource",
    "context_length",
    "find_model",
    "is_saved",
    "load_model",
    "load_skeleton",
    "load_sparse",
    "load_tokenizer",
    "pick_device",
    "pick_dtype",
    "save_checkpoints",
    "weights_digest",
    "write_sparse",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "digest": "weights_digest",
        "loading": "load_model load_skeleton load_tokenizer",
        "saving": "is_saved save_checkpoints",
        "source": "ModelSource context_length find_model pick_device pick_dtype",
        "sparse": "load_sparse write_sparse",
    },
)
