"""Folders that hold no checkpoint of a causal language model in transformers' format: what each is, and the remedy."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from prunebench.errors import ModelError, quoted

ADAPTER = "adapter_config.json"
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
# Names that wrappers put before those of the weights, and who does.
PREFIXES = {
    "_orig_mod.": "torch.compile",
    "module.": "DistributedDataParallel or FSDP",
    "base_model.model.": "PEFT",
}
HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output_layer|output|head)(\.|$)")


def other_format(folder: Path) -> str | None:
    """What a folder without ``config.json`` or without weights holds instead, and what to do; None for nothing known.

    Args:
        folder: of the model.
    """
    files = sorted(path.name for path in folder.iterdir())
    safetensors = [name for name in files if name.endswith(".safetensors")]
    if "model.safetensors" in files:
        return None
    if ADAPTER in files:
        return (
            f"holds an adapter alone ({ADAPTER}), made for {_base_of(folder / ADAPTER)}: merge it into that model (in "
            "PEFT merge_and_unload), save the outcome with save_pretrained, and name that folder"
        )
    if shards := [name for name in safetensors if SHARD.fullmatch(name)]:
        return (
            f"holds {len(shards)} shards ({shards[0]} for one) without model.safetensors.index.json, which says what "
            "is in which: put that file of the same checkpoint beside them"
        )
    if consolidated := [name for name in safetensors if name.startswith("consolidated")]:
        return (
            f"holds {consolidated[0]}, the format of Mistral's own programs: name the checkpoint in transformers' "
            "format, whose weights are in model.safetensors or in shards with an index"
        )
    if variants := [name for name in safetensors if re.fullmatch(r"model\.[\w-]+\.safetensors", name)]:
        return f"has its weights in {variants[0]} only, a variant: copy the folder and rename it to model.safetensors"
    if gguf := [name for name in files if name.lower().endswith(".gguf")]:
        return (
            f"holds {gguf[0]}, GGUF as llama.cpp reads it, mostly quantised: name the checkpoint that it was made "
            "from, in safetensors"
        )
    if pickled := [name for name in files if re.fullmatch(r"(pytorch_model.*\.bin|.*\.pth|.*\.pt|.*\.ckpt)", name)]:
        return (
            f"has its weights in {pickled[0]}, a pickle, which is not read: convert them to safetensors, or name a "
            "revision that has them"
        )
    if safetensors:
        return f"has no model.safetensors, but {safetensors[0]}: if that is the whole model, rename it in a copy"
    return None


def _base_of(file: Path) -> str:
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    return quoted(base) if base else "another model"


def refuse_wrapped_names(source: str, names: Iterable[str]) -> None:
    """Refuse weights that were saved from a wrapper around a model, whose names transformers does not know.

    Args:
        source: what messages call the model.
        names: of the weights.

    Raises:
        ModelError: all names begin with that of a wrapper.
    """
    names = list(names)
    for prefix, who in PREFIXES.items():
        if names and all(name.startswith(prefix) for name in names):
            raise ModelError(
                f"model {source}: the names of its weights begin with {prefix!r}, as of a model that was saved inside "
                f"{who}: take the model out of it before saving, or rename them in a copy"
            )


def has_head(names: Iterable[str]) -> bool:
    """Whether one of the weights may be that of a language-modelling head, by its name."""
    return any(HEAD.search(name) for name in names)
