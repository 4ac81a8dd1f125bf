"""The decoder blocks of a model: read from its checkpoint, and written to another as they are pruned."""

import shutil
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from prunebench.errors import ModelError
from prunebench.models.offload.parts import Checkpoint, conversions_of, file_of, files_of, finish, write_part
from prunebench.pruning.layers import decoder_blocks
from prunebench.pruning.offload import attach, resident

WEIGHTS, SCRATCH = "weights", "scratch"


class CheckpointStore:
    """A ``prunebench.pruning.offload.BlockStore`` over checkpoint folders; one block is read, or written, at a time.

    Args:
        source: what messages call the model.
        folder: of its checkpoint.
        model: all on the meta device; what surrounds its blocks is loaded, and the store attached to it.
        work: an empty folder for what is written.

    Raises:
        ModelError: the checkpoint lacks something, or does not fit.
    """

    def __init__(self, source: str, folder: Path, model: PreTrainedModel, work: Path) -> None:
        self._source, self._folder, self._model = source, folder, model
        blocks = decoder_blocks(model)
        names = {id(module): name for name, module in model.named_modules()}
        self.prefixes = [f"{names[id(block)]}." for block in blocks]
        self.write_back = False
        self.scratch, self._weights = work / SCRATCH, work / WEIGHTS
        for place in (self.scratch, self._weights):
            place.mkdir(parents=True)
        self._blocks = list(blocks)
        self._absent = [dict(block.named_parameters()) for block in blocks]
        self._users: Counter[int] = Counter()
        self._written: set[int] = set()
        self._conversions = conversions_of(model)
        self._original = Checkpoint(source, files_of(folder), model, self._conversions, self.prefixes)
        self._original.load(model, 0)
        model.tie_weights(missing_keys=set(self._lost(self._around())), recompute_mapping=False)
        self._check(self._around())
        attach(model, self)

    @property
    def parts(self) -> int:
        """Files of a checkpoint: one for each block, and one for the rest."""
        return len(self._blocks) + 1

    def _around(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers outside the blocks, under all their names."""
        state = self._model.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if not name.startswith(tuple(self.prefixes))}

    def _within(self, index: int) -> dict[str, Tensor]:
        """Those of one block, as they are."""
        state = self._blocks[index].state_dict(keep_vars=True)
        return {self.prefixes[index] + name: tensor for name, tensor in state.items()}

    def _lost(self, tensors: dict[str, Tensor]) -> list[str]:
        return sorted(name for name, tensor in tensors.items() if tensor.is_meta)

    def _check(self, tensors: dict[str, Tensor]) -> None:
        if lost := self._lost(tensors):
            raise ModelError(
                f"model {self._source} is incomplete: {len(lost)} weights are missing, {lost[0]} for one; "
                "fetch it again"
            )

    def fetch(self, index: int) -> None:
        """Put a block's parameters into memory, as new objects.

        Raises:
            ModelError: the checkpoint lacks one of them, or it does not fit.
        """
        if self._users[index]:
            self._users[index] += 1
            return
        if index in self._written:
            file = self._weights / file_of(index + 1, self.parts)
            Checkpoint(self._source, [file], self._model, self._conversions, []).load(self._model, 0)
        else:
            self._original.load(self._model, index + 1)
        self._check(self._within(index))
        self._users[index] = 1

    def release(self, index: int) -> None:
        """Take them out again, and write them where they are to be kept."""
        self._users[index] -= 1
        if self._users[index]:
            return
        if self.write_back:
            self._write(index)
        for name, absent in self._absent[index].items():
            owner, _, last = name.rpartition(".")
            module = self._blocks[index].get_submodule(owner)
            parameter = module._parameters[last]
            module._parameters[last] = absent
            if parameter is not None:
                # Whoever still holds it holds no memory, and reads NaN rather than what nobody keeps.
                nothing = torch.nan if parameter.is_floating_point() else 0
                parameter.data = torch.full((), nothing, dtype=parameter.dtype).expand(parameter.shape)

    def _write(self, index: int) -> None:
        write_part(self._weights, self._model, index + 1, self.parts, self._within(index))
        self._written.add(index)

    def save(self, folder: Path) -> None:
        """Move what was written into a folder on the same disk, as a checkpoint that transformers reads.

        No block can be asked for afterwards.
        """
        for index in range(len(self._blocks)):
            if index not in self._written:
                with resident(self._model, index):
                    self._write(index)
        tied = getattr(self._model, "all_tied_weights_keys", {})
        rest = {name: tensor for name, tensor in self._around().items() if name not in tied}
        write_part(self._weights, self._model, 0, self.parts, rest)
        finish(self._weights, self._model, self.parts)
        if (generation := self._folder / "generation_config.json").is_file():
            shutil.copyfile(generation, self._weights / generation.name)
        for file in self._weights.iterdir():
            file.rename(folder / file.name)
