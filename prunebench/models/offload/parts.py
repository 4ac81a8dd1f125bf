"""Checkpoint folders, read and written one part of a model at a time.

Part 0 holds the tensors outside the decoder blocks, part i + 1 those of block i. Names and layouts in checkpoints
differ from those of a model: experts are stored one by one, a prefix is left out. Transformers converts one into the
other for a whole model; here it converts the tensors of one part.
"""

import inspect
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
from prunebench.models.offload.safetensors_io import TensorLocation, tensor_locations, write_tensors
from prunebench.pruning.buffers import read_tensor
from prunebench.quiet import quiet_hub_libraries

INDEX = "model.safetensors.index.json"
# Earlier releases of transformers must be told that there is none; later ones do not ask.
NO_TENSOR_PARALLELISM = (
    {"tp_plan": None} if "tp_plan" in inspect.signature(convert_and_load_state_dict_in_model).parameters else {}
)


class Checkpoint:
    """The locations of a model's tensors in checkpoint files, part by part.

    Args:
        source: the model's name in messages.
        files: safetensors files.
        model: in the dtype that its parameters shall have.
        conversions: from ``checkpoint_conversions``; they record which of them were used, and parts are written
            accordingly.
        prefixes: of the names of the parameters of each part after part 0.

    Raises:
        ModelError: a file cannot be read.
    """

    def __init__(
        self, source: str, files: Iterable[Path], model: PreTrainedModel, conversions: list[Any], prefixes: list[str]
    ) -> None:
        self._source, self._conversions = source, conversions
        self._parts: list[dict[str, TensorLocation]] = [{} for _ in range(len(prefixes) + 1)]
        state = model.state_dict(keep_vars=True)
        renamings, converters = (
            [entry for entry in self._conversions if isinstance(entry, cls)]
            for cls in (WeightRenaming, WeightConverter)
        )
        try:
            locations = {name: location for file in files for name, location in tensor_locations(file).items()}
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"model {source} cannot be read part by part: {type(error).__name__}: {error}") from None
        for name, location in locations.items():
            target, _ = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
            if target not in state and name in state:
                target = name
            part = next((number for number, prefix in enumerate(prefixes, 1) if target.startswith(prefix)), 0)
            if part or target in state:
                self._parts[part][name] = location

    def load(self, model: PreTrainedModel, part: int) -> None:
        """Load the tensors of one part into a model, as new parameters in memory.

        Raises:
            ModelError: one is of another shape, or cannot be converted.
        """
        state = {name: read_tensor(*location) for name, location in self._parts[part].items()}
        config = LoadStateDictConfig(
            dtype=model.dtype, dtype_plan=model._get_dtype_plan(model.dtype), weight_mapping=self._conversions
        )
        with quiet_hub_libraries():
            info, _ = convert_and_load_state_dict_in_model(model, state, config, **NO_TENSOR_PARALLELISM)
        wrong = [*info.conversion_errors, *(entry[0] for entry in info.mismatched_keys)]
        if wrong:
            raise ModelError(
                f"model {self._source}: {sorted(map(str, wrong))[0]} does not fit its configuration; fetch it again"
            )


def checkpoint_conversions(model: PreTrainedModel) -> list[Any]:
    """Transformers' conversions between a checkpoint's names and layouts and those of a model."""
    conversions: list[Any] = get_model_conversion_mapping(model)
    return conversions


def checkpoint_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint folder."""
    index = folder / INDEX
    if not index.is_file():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def part_file(part: int, parts: int) -> str:
    """Name of the file that holds a part, by the hub's convention."""
    return f"model-{part + 1:05}-of-{parts:05}.safetensors"


def write_part(folder: Path, model: PreTrainedModel, part: int, parts: int, tensors: Mapping[str, Tensor]) -> None:
    """Write one part as ``save_pretrained`` would name and lay out its tensors; all or nothing."""
    state: dict[str, Tensor] = revert_weight_conversion(model, dict(tensors))
    layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}
    write_tensors(folder / part_file(part, parts), layout, state.items(), {"format": "pt"})


def finish_checkpoint(folder: Path, model: PreTrainedModel, parts: int) -> None:
    """Write the configuration and the index into a folder that holds all parts, so that transformers can read it."""
    files = [folder / part_file(part, parts) for part in range(parts)]
    names = {name: file.name for file in files for name in tensor_locations(file)}
    size = sum(file.stat().st_size for file in files)
    model.config.save_pretrained(folder)
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": names}, indent=2)
    write_atomically(folder / INDEX, f"{text}\n".encode())
