"""The hidden states that a walk over a model's decoder blocks carries from one block to the next."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prunebench.pruning.block_inputs import StopForward
from prunebench.pruning.buffers import ArgumentCache, TensorCache, TensorList, cast, loaded
from prunebench.pruning.callbacks import replayed, track
from prunebench.pruning.layers import decoder_blocks
from prunebench.pruning.offload import resident, store_of
from prunebench.pruning.routing import ExpertTokens


class HiddenStates:
    """Hidden states of all windows at the input of one block, and the other arguments of every block's call.

    Args:
        model: a causal language model in eval mode.
        blocks: its decoder blocks.
        batches: token ids, (batch, length) each.
        dense: whether to carry the hidden states of the model as it was before the walk, too.
        teacher: a model whose blocks give the outputs, and the dense hidden states, in place of that.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: nn.ModuleList,
        batches: Sequence[Tensor],
        *,
        dense: bool = False,
        teacher: nn.Module | None = None,
    ) -> None:
        self._blocks = list(blocks)
        self._teaching = self._blocks if teacher is None else list(decoder_blocks(teacher))
        self._cache = TensorCache(model)
        self._hidden, self._arguments = TensorList(self._cache, "hidden"), ArgumentCache(self._cache)
        self._calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = [[] for _ in self._blocks]
        self._returned: int | None = None  # by a block: how many members its tuple has; None for a tensor
        self._lists = 0
        self.expert_tokens = ExpertTokens()
        with resident(model, 0):
            self._capture(model, batches)
        self._dense: TensorList | None = None
        if dense and teacher is not None:  # an earlier stage may have changed the embeddings
            self._dense = HiddenStates(teacher, decoder_blocks(teacher), batches)._hidden
        elif dense:
            self._dense = self._new_list()
            for batch in range(len(self)):  # what differs later is the same at the first block
                self._dense.append(self._hidden[batch])

    def __len__(self) -> int:
        return len(self._hidden)

    def _new_list(self) -> TensorList:
        """An empty list; the last but one is overwritten where tensors are in files."""
        self._lists += 1
        return TensorList(self._cache, f"outputs-{self._lists % 2}")

    @torch.no_grad()
    def _capture(self, model: nn.Module, batches: Iterable[Tensor]) -> None:
        """Run the model with its blocks replaced by recorders, so that only the modules around them are computed.

        The arguments of each block are recorded, since they differ between blocks (sliding and full attention, local
        and global rotary embeddings) and may depend on the tokens; equal tensors are stored once.
        """
        returned: list[int | None] = []

        def recorder(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
            def record(*args: Any, **kwargs: Any) -> Any:
                hidden, other_args = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
                if index == 0:
                    self._hidden.append(hidden)
                self._calls[index].append((self._arguments.add(other_args), self._arguments.add(kwargs)))
                if index + 1 == len(self._blocks):
                    raise StopForward
                if not returned:
                    returned.append(_members(forward(hidden, *other_args, **kwargs)))
                return _as_returned(hidden, returned[0])

            return record

        device = next(parameter.device for parameter in model.parameters() if not parameter.is_meta)
        with replaced_forwards([(block, recorder(index, block.forward)) for index, block in enumerate(self._blocks)]):
            for batch in batches:
                with suppress(StopForward):
                    model(input_ids=batch.to(device), use_cache=False)

    def call(
        self, index: int, batch: int, *, dense: bool = False, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Output hidden states of a block for one batch, (batch, length, hidden).

        Args:
            index: of the block.
            batch: number of the batch.
            dense: of the teacher, and on the inputs of the dense model where those are carried.
            weights: tensors in place of the block's parameters, by their names in the block.
        """
        block = (self._teaching if dense else self._blocks)[index]
        states = self._dense if dense and self._dense is not None else self._hidden
        hidden, (args, kwargs) = states[batch], loaded(self._calls[index][batch])
        dtypes = {parameter.dtype for parameter in block.parameters() if parameter.is_floating_point()}
        if hidden.dtype not in dtypes and dtypes == {torch.float32}:  # the block is being trained, in fp32
            hidden, args, kwargs = cast((hidden, args, kwargs), hidden.dtype, torch.float32)
        output = (
            functional_call(block, dict(weights), (hidden, *args), kwargs)
            if weights
            else block(hidden, *args, **kwargs)
        )
        self._returned = _members(output)
        result: Tensor = output if self._returned is None else output[0]
        return result

    @torch.no_grad()
    def outputs(self, index: int) -> TensorList:
        """What a block, or the teacher's, gives for every batch; on the dense model's inputs where they are carried."""
        found = self._new_list()
        for batch in range(len(self)):
            found.append(self.call(index, batch, dense=True))
        return found

    @torch.no_grad()
    def advance(self, index: int, dense: TensorList | None = None) -> None:
        """Replace the hidden states by the outputs of the (now pruned) block, in the same buffers.

        Args:
            index: of the block.
            dense: the block's ``outputs`` before it was pruned, where those of the dense model are carried.
        """
        for batch in range(len(self)):
            self._hidden[batch] = self.call(index, batch)
        if self._dense is not None:
            self._dense = dense

    def state(self, start: int, end: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors of blocks ``start`` to ``end``, exclusive, and the expert token counts so far."""
        tensors = {f"{index}.{name}": t for index in range(start, end) for name, t in self._block_tensors(index)}
        return tensors, {"end": end, "expert_tokens": self.expert_tokens.tokens}

    def restore(self, start: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> int:
        """Restore blocks from ``start`` on to a saved state, and walk through them; returns the first after them."""
        end: int = facts["end"]
        self.expert_tokens.tokens = dict(facts["expert_tokens"])
        for index in range(start, end):
            last = index + 1 == len(self._blocks)
            with replayed():
                dense = None if self._dense is None or last else self.outputs(index)
            for name, tensor in self._block_tensors(index):
                tensor.copy_(tensors[f"{index}.{name}"])
            if not last:
                with nullcontext() if index + 1 == end else replayed():  # the last is what comes next after the save
                    self.advance(index, dense)
        return end

    def _block_tensors(self, index: int) -> Iterator[tuple[str, Tensor]]:
        block = self._blocks[index]
        return ((name, tensor.detach()) for name, tensor in (*block.named_parameters(), *block.named_buffers()))

    @contextmanager
    def replay(self, batch: int) -> Iterator[None]:
        """Let each block return the final hidden states of a batch without running; for use after the last block."""
        hidden = self._hidden[batch]
        output = _as_returned(hidden, self._returned)
        with replaced_forwards([(block, lambda *args, **kwargs: output) for block in self._blocks]):
            yield


def _members(output: Any) -> int | None:
    """How many members the tuple has that a block returned; None for a tensor."""
    return len(output) if isinstance(output, tuple) else None


def _as_returned(hidden: Tensor, members: int | None) -> Any:
    """Hidden states in the form in which a block returns them, without what else it returns."""
    return hidden if members is None else (hidden, *[None] * (members - 1))


def run_block_by_block(model: nn.Module, batches: Sequence[Tensor]) -> Callable[[int], AbstractContextManager[None]]:
    """Run each decoder block over all batches before the next one, where blocks are loaded from disk.

    Args:
        model: a causal language model in eval mode; for one that is in memory nothing is run.
        batches: token ids, (batch, length) each.

    Returns:
        Called with a batch's number, a context in which a call of the model with that batch uses the hidden states
        that were computed; for a model in memory, a context that does nothing.
    """
    if store_of(model) is None:
        return lambda batch: nullcontext()
    blocks = decoder_blocks(model)
    states = HiddenStates(model, blocks, batches)
    for index in track(range(len(blocks)), "block"):
        with resident(model, index):
            states.advance(index)
    return states.replay


@contextmanager
def replaced_forwards(forwards: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Replace the ``forward`` of these modules inside this context."""
    forwards = list(forwards)
    originals = [(module, module.__dict__.get("forward")) for module, _ in forwards]
    try:
        for module, forward in forwards:
            module.forward = forward
        yield
    finally:
        for module, original in originals:
            module.__dict__.pop("forward", None)
            if original is not None:
                module.forward = original
