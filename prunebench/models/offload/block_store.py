"""The block store of a model on disk: blocks are read from its checkpoint, and written to another once pruned."""

import shutil
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from prunebench.errors import ModelError
from prunebench.models.offload.parts import (
    Checkpoint,
    checkpoint_conversions,
    checkpoint_files,
    finish_checkpoint,
    part_file,
    write_part,
)
from prunebench.pruning.layers import decoder_blocks
from prunebench.pruning.offload import attach, resident

WEIGHTS, SCRATCH = "weights", "scratch"


class CheckpointStore:
    """A ``prunebench.pruning.offload.BlockStore`` over checkpoint folders; one block is read, or written, at a time.

    Args:
        source: the model's name in messages.
        folder: the folder of its checkpoint.
        model: with all parameters on the meta device; those outside the blocks are loaded, and the store is attached.
        work: an empty folder, for the blocks that are written and as scratch space.

    Raises:
        ModelError: the checkpoint lacks a weight, or does not fit the model.
    """

    def __init__(self, source: str, folder: Path, model: PreTrainedModel, work: Path) -> None:
        self._source, self._folder, self._model = source, folder, model
        blocks = decoder_blocks(model)
        names = {id(module): name for name, module in model.named_modules()}
        self.prefixes = [f"{names[id(block)]}." for block in blocks]
        self.write_back = False
        self.scratch, self._weights = work / SCRATCH, work / WEIGHTS
        for new_folder in (self.scratch, self._weights):
            new_folder.mkdir(parents=True)
        self._blocks = list(blocks)
        self._meta_parameters = [dict(block.named_parameters()) for block in blocks]
        self._users: Counter[int] = Counter()
        self._written: set[int] = set()
        self._conversions = checkpoint_conversions(model)
        self._original = Checkpoint(source, checkpoint_files(folder), model, self._conversions, self.prefixes)
        self._original.load(model, 0)
        model.tie_weights(missing_keys=set(self._missing(self._tensors_outside_blocks())), recompute_mapping=False)
        self._check_complete(self._tensors_outside_blocks())
        attach(model, self)

    @property
    def parts(self) -> int:
        """The number of files of a checkpoint: one for each block, and one for the tensors outside the blocks."""
        return len(self._blocks) + 1

    def _tensors_outside_blocks(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers outside the blocks, under all their names."""
        state = self._model.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if not name.startswith(tuple(self.prefixes))}

    def _block_tensors(self, index: int) -> dict[str, Tensor]:
        """Parameters and persistent buffers of one block, by their names in the model."""
        state = self._blocks[index].state_dict(keep_vars=True)
        return {self.prefixes[index] + name: tensor for name, tensor in state.items()}

    def _missing(self, tensors: dict[str, Tensor]) -> list[str]:
        """Names of tensors without memory: the checkpoint did not hold them."""
        return sorted(name for name, tensor in tensors.items() if tensor.is_meta)

    def _check_complete(self, tensors: dict[str, Tensor]) -> None:
        if missing := self._missing(tensors):
            raise ModelError(
                f"model {self._source} is incomplete: {len(missing)} weights are missing, {missing[0]} for one; "
                "fetch it again"
            )

    def fetch(self, index: int) -> None:
        """Load a block's parameters into memory, as new objects.

        Raises:
            ModelError: the checkpoint lacks one of them, or it does not fit.
        """
        if self._users[index]:
            self._users[index] += 1
            return
        if index in self._written:
            file = self._weights / part_file(index + 1, self.parts)
            Checkpoint(self._source, [file], self._model, self._conversions, []).load(self._model, 0)
        else:
            self._original.load(self._model, index + 1)
        self._check_complete(self._block_tensors(index))
        self._users[index] = 1

    def release(self, index: int) -> None:
        """Remove a block's parameters from memory, after writing them where ``write_back`` is set.

        A block that was fetched several times is removed when it was released as often.
        """
        self._users[index] -= 1
        if self._users[index]:
            return
        if self.write_back:
            self._write(index)
        for name, meta_parameter in self._meta_parameters[index].items():
            owner, _, attribute = name.rpartition(".")
            module = self._blocks[index].get_submodule(owner)
            parameter = module._parameters[attribute]
            module._parameters[attribute] = meta_parameter
            if parameter is not None:
                # A reference that outlives the block takes no memory, and reads NaN rather than weights that are lost.
                fill = torch.nan if parameter.is_floating_point() else 0
                parameter.data = torch.full((), fill, dtype=parameter.dtype).expand(parameter.shape)

    def _write(self, index: int) -> None:
        write_part(self._weights, self._model, index + 1, self.parts, self._block_tensors(index))
        self._written.add(index)

    def take_over(self, weights: Path) -> None:
        """Read from now on the blocks that another store of the same model wrote, and write there too.

        Args:
            weights: the folder in which it wrote them.

        Raises:
            ModelError: there is something else than files of blocks.
        """
        names = {part_file(index + 1, self.parts): index for index in range(len(self._blocks))}
        for file in weights.iterdir():
            if file.name not in names or file.is_symlink() or not file.is_file():
                raise ModelError(f"{file.name} is no file of a block of {self._source}")
            self._written.add(names[file.name])
        self._weights = weights

    def save(self, folder: Path) -> None:
        """Move what was written into a folder on the same disk, as a checkpoint that transformers reads.

        No block can be fetched afterwards.
        """
        for index in range(len(self._blocks)):
            if index not in self._written:
                with resident(self._model, index):
                    self._write(index)
        tied = getattr(self._model, "all_tied_weights_keys", {})
        outside = {name: tensor for name, tensor in self._tensors_outside_blocks().items() if name not in tied}
        write_part(self._weights, self._model, 0, self.parts, outside)
        finish_checkpoint(self._weights, self._model, self.parts)
        if (generation := self._folder / "generation_config.json").is_file():
            shutil.copyfile(generation, self._weights / generation.name)
        for file in self._weights.iterdir():
            file.rename(folder / file.name)
