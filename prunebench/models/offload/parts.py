"""A checkpoint folder, read and written one part of a model at a time.

Names and layouts in checkpoints differ from those of a model: experts stand one by one, a prefix is left out.
Transformers knows how to turn one into the other for a whole model; here it is asked to for the tensors of one part.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    rename_source_key,
    revert_weight_conversion,
)
from transformers.modeling_utils import LoadStateDictConfig

from prunebench.errors import ModelError
from prunebench.files import write_atomically
from prunebench.models.offload.safetensors_io import Place, places_in, write_tensors
from prunebench.pruning.buffers import read_tensor
from prunebench.quiet import quiet_hub_libraries

INDEX = "model.safetensors.index.json"


class Checkpoint:
    """Where the tensors of a model lie, part by part.

    Args:
        source: what messages call it.
        files: safetensors files.
        model: in the dtype that its parameters shall have.
        conversions: from ``conversions_of``; they remember what was used of them, which decides how parts are written.
        prefixes: of the names of the parameters of each part but the first, which is the rest.

    Raises:
        ModelError: a file cannot be read.
    """

    def __init__(
        self, source: str, files: Iterable[Path], model: PreTrainedModel, conversions: list[Any], prefixes: list[str]
    ) -> None:
        self._source, self._conversions = source, conversions
        self._parts: list[dict[str, Place]] = [{} for _ in range(len(prefixes) + 1)]
        whole = model.state_dict(keep_vars=True)
        kinds = [
            [entry for entry in self._conversions if isinstance(entry, kind)]
            for kind in (WeightRenaming, WeightConverter)
        ]
        try:
            found = {name: place for file in files for name, place in places_in(file).items()}
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {source} cannot be read part by part: {type(error).__name__}: {error}") from None
        for name, place in found.items():
            target, _ = rename_source_key(name, *kinds, model.base_model_prefix, whole)
            if target not in whole and name in whole:
                target = name
            part = next((number for number, prefix in enumerate(prefixes, 1) if target.startswith(prefix)), 0)
            if part or target in whole:
                self._parts[part][name] = place

    def load(self, model: PreTrainedModel, part: int) -> None:
        """Put the tensors of one part into a model, as new parameters in memory.

        Raises:
            ModelError: one is of another shape, or cannot be converted.
        """
        state = {name: read_tensor(*place) for name, place in self._parts[part].items()}
        config = LoadStateDictConfig(
            dtype=model.dtype, dtype_plan=model._get_dtype_plan(model.dtype), weight_mapping=self._conversions
        )
        with quiet_hub_libraries():
            info, _ = convert_and_load_state_dict_in_model(model, state, config)
        wrong = [*info.conversion_errors, *(entry[0] for entry in info.mismatched_keys)]
        if wrong:
            raise ModelError(
                f"model {self._source}: {sorted(map(str, wrong))[0]} does not fit its configuration; fetch it again"
            )


def conversions_of(model: PreTrainedModel) -> list[Any]:
    """What turns a checkpoint's names and layouts into those of a model, and back."""
    conversions: list[Any] = get_model_conversion_mapping(model)
    return conversions


def files_of(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint."""
    index = folder / INDEX
    if not index.is_file():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def file_of(part: int, parts: int) -> str:
    """Name of the file that holds a part, by the hub's convention; the first is the rest."""
    return f"model-{part + 1:05}-of-{parts:05}.safetensors"


def write_part(folder: Path, model: PreTrainedModel, part: int, parts: int, tensors: Mapping[str, Tensor]) -> None:
    """Write one part as ``save_pretrained`` would name and lay out its tensors; all or nothing."""
    state: dict[str, Tensor] = revert_weight_conversion(model, dict(tensors))
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}
    write_tensors(folder / file_of(part, parts), layout, state.items(), {"format": "pt"})


def finish(folder: Path, model: PreTrainedModel, parts: int) -> None:
    """Make a folder that holds all parts a checkpoint that transformers reads."""
    files = [folder / file_of(part, parts) for part in range(parts)]
    names = {name: file.name for file in files for name in places_in(file)}
    size = sum(file.stat().st_size for file in files)
    model.config.save_pretrained(folder)
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": names}, indent=2)
    write_atomically(folder / INDEX, f"{text}\n".encode())
