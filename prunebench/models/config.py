"""A model's configuration as JSON, and what in its folder is refused before transformers sees it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunebench.errors import ModelError, first_line, quoted
from prunebench.files import MEBIBYTE, read_regular_file
from prunebench.models.architecture import check_architecture
from prunebench.models.folders import ADAPTER, other_format

# Implementations that come with torch and transformers. All others are fetched from the hub, or may be.
IMPLEMENTATIONS = {
    "attn_implementation": ("eager", "sdpa", "flex_attention"),
    "experts_implementation": ("eager", "batched_mm", "grouped_mm"),
}


def check_config(source: str, folder: Path, trust_remote_code: bool) -> None:
    """Refuse a model of an unknown architecture, with an adapter, or with code that may not run.

    Args:
        source: what messages call the model.
        folder: the folder of its files.
        trust_remote_code: whether code in the folder (``auto_map``) may run.

    Raises:
        ModelError: it is refused, or a file is no JSON object.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if not (folder / "config.json").exists() and (other := other_format(folder)):
        raise ModelError(f"model {source} {other}")
    if (folder / ADAPTER).exists():
        raise ModelError(
            f"model {source} holds an adapter ({ADAPTER}), which would change its weights and is part of no digest: "
            "merge it into the weights, or use a copy of the folder without it"
        )
    config = read_json(source, folder / "config.json")
    if kernel := next(_foreign_kernels(config), None):
        key, value, valid = kernel
        raise ModelError(
            f"model {source}: config.json says {key} {quoted(value)}, a kernel that would be fetched from the hub and "
            f"is part of no digest: in a copy of the folder remove the key, or set it to {' or '.join(valid)}"
        )
    tokenizer_file = folder / "tokenizer_config.json"
    tokenizer_config = read_json(source, tokenizer_file) if tokenizer_file.is_file() else {}
    model_type = config.get("model_type")
    known = isinstance(model_type, str) and model_type in CONFIG_MAPPING_NAMES
    auto_maps = [part["auto_map"] for part in (config, tokenizer_config) if part.get("auto_map")]
    if auto_maps and trust_remote_code:
        if "--" in json.dumps(auto_maps):
            raise ModelError(
                f"model {source} runs code from another repository (auto_map), which no digest of ours covers: "
                "use a copy that holds its own code"
            )
        return
    if "auto_map" in tokenizer_config or ("auto_map" in config and not known):
        raise ModelError(
            f"model {source} brings code of its own (auto_map), which is not run unless its entry in the suite says "
            "trust_remote_code: true; read the code before, or use a stock architecture"
        )
    if not known:
        raise ModelError(
            f"model {source}: config.json says model_type {model_type!r}, which transformers does not know"
        )
    check_architecture(source, config)


def _foreign_kernels(config: Any) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """(key, value, what is valid) where a configuration, at any depth, names a kernel that would be fetched."""
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        for key, value in part.items() if isinstance(part, dict) else ():
            pending.append(value)
            known = IMPLEMENTATIONS.get(key.removeprefix("_").removesuffix("_internal"), ())
            for name in value.values() if isinstance(value, dict) else [value]:
                if known and name is not None and name not in known:
                    yield key, name, known


def read_json(source: str, file: Path) -> dict[str, Any]:
    """A file that holds a JSON object.

    Args:
        source: what messages call the model.
        file: its file.

    Raises:
        ModelError: it is missing, or no JSON object.
    """
    try:
        content = json.loads(read_regular_file(file, 64 * MEBIBYTE).decode("utf-8"))
    except OSError as error:
        raise ModelError(f"model {source} has no readable {file.name} in {file.parent}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model {source}: {file.name} is not JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {source}: {file.name} is not a JSON object")
    return content
