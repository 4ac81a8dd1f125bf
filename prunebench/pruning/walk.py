"""The walk over a model's decoder blocks: each block's inputs are taken after all earlier blocks were pruned."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypeVar
from weakref import ref

import torch
from torch import Tensor, nn

from prunebench.pruning.buffers import ArgumentCache, TensorCache, TensorList, loaded
from prunebench.pruning.calibration import CalibrationData
from prunebench.pruning.callbacks import active_callbacks, layer_finished, replayed, track
from prunebench.pruning.layers import Layer, block_layers, decoder_blocks, target_of
from prunebench.pruning.offload import resident, store_of
from prunebench.pruning.resume import begin_walk, due, keep, kept
from prunebench.pruning.routing import ExpertTokens, layer_inputs
from prunebench.pruning.sparsity import Sparsity, Target
from prunebench.pruning.statistics import Statistic

TOKENS_PER_CALL = 4096

S = TypeVar("S", bound=Statistic)


def calibrated(
    model: nn.Module,
    data: CalibrationData,
    sparsity: Sparsity,
    statistic: Callable[[Layer], S],
    *,
    resume: bool = True,
) -> Iterator[tuple[Layer, S, Target]]:
    """Every matrix to be pruned, with a statistic of its inputs.

    Goes block by block. The inputs of a block are the outputs of the earlier blocks, already pruned, for
    ``data.windows``; the statistics of its layers are taken while the block itself is still dense. Prune the layer
    before asking for the next one, or write to no layer while you walk. Layers that read the same tensor (q, k, v;
    gate, up) share one statistic object. An expert's layers are shown the tokens that are routed to it;
    ``prunebench.pruning.routing`` says what is done about experts that receive few or none.

    An interrupted run resumes after the last block that it saved, and yields only the layers of the remaining blocks.
    So a layer may be changed only according to its own weights and statistic; a method that carries something from one
    layer to the next, or writes outside the block, says ``resume=False`` and starts again at the first block.

    Args:
        model: a causal language model in eval mode.
        data: calibration windows.
        sparsity: the pattern asked for.
        statistic: called with a layer, returns the object that is shown its inputs: ``Hessian``, ``FeatureNorm`` or
            your own.
        resume: whether an interrupted run may resume in the middle of the walk.

    Yields:
        (layer, statistic, target); a layer of which no zero is asked is passed over.

    Raises:
        UnknownMatrixError: the model holds matrices of a kind that is not known here.
        PatternError: the pattern does not fit a layer.
    """
    blocks = decoder_blocks(model)
    targets = [[target_of(layer, sparsity) for layer in block_layers(model, block)] for block in blocks]
    walk = _Walk(model, blocks, torch.split(data.windows, max(1, TOKENS_PER_CALL // data.seqlen)))
    name, unsaved = begin_walk(), 0  # the first block that is not saved yet
    while resume and (state := kept(f"{name}/{unsaved}")):
        unsaved = walk.restore(unsaved, *state)
    turns = _Turns()
    for index in track(range(unsaved, len(blocks)), "block", start=unsaved):
        with resident(model, index):
            layers = block_layers(model, blocks[index])
            statistics = walk.statistics(index, layers, statistic)
            for layer, seen, target in zip(layers, statistics, targets[index], strict=True):
                if target.zeros:
                    version = turns.begin(layer)
                    yield layer, seen, target
                    turns.end(layer, target, version)
            del statistics
            if resume and due():
                keep(f"{name}/{unsaved}", *walk.state(unsaved, index + 1))
                unsaved = index + 1
            if index + 1 < len(blocks):
                walk.advance(index)


class _Turns:
    """Tells the layer watcher of the layers that a method wrote to: one that only looks need not prune while it walks.

    A layer that was not written in its own turn is told of once it is written while the walk goes on.
    """

    def __init__(self) -> None:
        self._looked: list[tuple[str, ref[nn.Parameter], int, int, int]] = []

    def begin(self, layer: Layer) -> int:
        """The version of a layer's parameter, which counts writes, before its turn."""
        return layer.parameter._version

    def end(self, layer: Layer, target: Target, version: int) -> None:
        """The turn of a layer is over."""
        if active_callbacks().layer_watcher is None:
            return
        for name, parameter, then, zeros, requested in self._looked:
            if (current := parameter()) is not None and current._version != then:
                layer_finished(name, zeros, requested)
        self._looked = [entry for entry in self._looked if (p := entry[1]()) is not None and p._version == entry[2]]
        zeros, now = int((layer.weight == 0).sum()), layer.parameter._version
        if now != version:
            layer_finished(layer.name, zeros, target.zeros)
        else:
            self._looked.append((layer.name, ref(layer.parameter), now, zeros, target.zeros))


class _StopForward(Exception):  # noqa: N818 - no error
    """Ends a forward pass whose remaining outputs are not needed."""


class _Walk:
    """Hidden states of all windows at the input of one block, and the other arguments of every block's call.

    Args:
        model: a causal language model in eval mode.
        blocks: its decoder blocks.
        batches: token ids, (batch, length) each.
    """

    def __init__(self, model: nn.Module, blocks: nn.ModuleList, batches: Iterable[Tensor]) -> None:
        self._blocks = list(blocks)
        cache = TensorCache(model)
        self._hidden, self._arguments = TensorList(cache, "hidden"), ArgumentCache(cache)
        self._calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = [[] for _ in self._blocks]
        self._expert_tokens = ExpertTokens()
        self._returns_tuple = False
        with resident(model, 0):
            self._capture(model, batches)

    @torch.no_grad()
    def _capture(self, model: nn.Module, batches: Iterable[Tensor]) -> None:
        """Run the model with its blocks replaced by recorders, so that only the modules around them are computed.

        The arguments of each block are recorded, since they differ between blocks (sliding and full attention, local
        and global rotary embeddings) and may depend on the tokens; equal tensors are stored once.
        """
        returns_tuple: list[bool] = []

        def recorder(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
            def record(*args: Any, **kwargs: Any) -> Any:
                hidden, other_args = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
                if index == 0:
                    self._hidden.append(hidden)
                self._calls[index].append((self._arguments.add(other_args), self._arguments.add(kwargs)))
                if index + 1 == len(self._blocks):
                    raise _StopForward
                if not returns_tuple:
                    returns_tuple.append(isinstance(forward(hidden, *other_args, **kwargs), tuple))
                return (hidden, None) if returns_tuple[0] else hidden

            return record

        device = next(parameter.device for parameter in model.parameters() if not parameter.is_meta)
        with replaced_forwards([(block, recorder(index, block.forward)) for index, block in enumerate(self._blocks)]):
            for batch in batches:
                with suppress(_StopForward):
                    model(input_ids=batch.to(device), use_cache=False)

    def _call(self, index: int, batch: int) -> Tensor:
        """Output hidden states of a block for one batch."""
        args, kwargs = loaded(self._calls[index][batch])
        output = self._blocks[index](self._hidden[batch], *args, **kwargs)
        self._returns_tuple = isinstance(output, tuple)
        hidden: Tensor = output[0] if self._returns_tuple else output
        return hidden

    @torch.no_grad()
    def statistics(self, index: int, layers: list[Layer], statistic: Callable[[Layer], S]) -> list[S]:
        """Show the inputs of each layer in one block to its statistic; returns them in the order of ``layers``."""
        by_module: dict[nn.Module, list[Layer]] = {}
        for layer in layers:
            by_module.setdefault(layer.module, []).append(layer)
        statistics: dict[str, S] = {}  # by layer
        first_readers = self._first_batch(index, by_module, statistic, statistics)
        last_module = first_readers[-1].module

        def hook(readers: list[Layer]) -> Callable[..., None]:
            def show(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                for layer, X in layer_inputs(readers, args, kwargs):
                    self._show(layer, statistics[layer.name], X)
                if module is last_module:
                    raise _StopForward

            return show

        reading = set(first_readers)
        readers = {module: [layer for layer in row if layer in reading] for module, row in by_module.items()}
        with _pre_hooks({module: hook(row) for module, row in readers.items() if row}):
            for batch in range(1, len(self._hidden)):
                with suppress(_StopForward):
                    self._call(index, batch)
        self._expert_tokens.report([(layer, statistics[layer.name]) for layer in layers if layer.expert is not None])
        return [statistics[layer.name] for layer in layers]

    def _first_batch(
        self,
        index: int,
        by_module: dict[nn.Module, list[Layer]],
        statistic: Callable[[Layer], S],
        statistics: dict[str, S],
    ) -> list[Layer]:
        """Run the first batch, and make a statistic for each input tensor.

        Args:
            index: of the block.
            by_module: the block's layers.
            statistic: makes one.
            statistics: filled in, by name of the layer.

        Returns:
            The first reader of each input tensor, in calling order.
        """
        first_readers: list[Layer] = []
        inputs: list[tuple[Tensor, S]] = []  # keeps the tensors alive, so that equal addresses mean equal tensors

        def hook(layers: list[Layer]) -> Callable[..., None]:
            def show(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                for layer, X in layer_inputs(layers, args, kwargs):
                    shared = [seen for tensor, seen in inputs if layer.expert is None and _same_storage(tensor, X)]
                    statistics[layer.name] = seen = shared[0] if shared else statistic(layer)
                    if not shared:
                        self._show(layer, seen, X)
                        first_readers.append(layer)
                        if layer.expert is None:
                            inputs.append((X, seen))

            return show

        with _pre_hooks({module: hook(layers) for module, layers in by_module.items()}):
            self._call(index, 0)
        if missing := [layer.name for row in by_module.values() for layer in row if layer.name not in statistics]:
            raise RuntimeError(f"{missing[0]} is never called when its block runs: it cannot be calibrated")
        return first_readers

    def _show(self, layer: Layer, statistic: Statistic, X: Tensor) -> None:
        """Show a layer's inputs to its statistic; an expert that no token of the batch is routed to has none."""
        if layer.expert is not None:
            self._expert_tokens.count(layer, len(X))
        if len(X):
            statistic.add(X.reshape(-1, X.shape[-1]))

    @torch.no_grad()
    def advance(self, index: int) -> None:
        """Replace the hidden states by the outputs of the (now pruned) block, in the same buffers."""
        for batch in range(len(self._hidden)):
            self._hidden[batch] = self._call(index, batch)

    def state(self, start: int, end: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors of blocks ``start`` to ``end``, exclusive, and the expert token counts so far."""
        tensors = {f"{index}.{name}": t for index in range(start, end) for name, t in self._block_tensors(index)}
        return tensors, {"end": end, "expert_tokens": self._expert_tokens.tokens}

    def restore(self, start: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> int:
        """Restore blocks from ``start`` on to a saved state, and walk through them; returns the first after them."""
        end: int = facts["end"]
        self._expert_tokens.tokens = dict(facts["expert_tokens"])
        for index in range(start, end):
            for name, tensor in self._block_tensors(index):
                tensor.copy_(tensors[f"{index}.{name}"])
            if index + 1 < len(self._blocks):
                with nullcontext() if index + 1 == end else replayed():  # the last is what comes next after the save
                    self.advance(index)
        return end

    def _block_tensors(self, index: int) -> Iterator[tuple[str, Tensor]]:
        block = self._blocks[index]
        return ((name, tensor.detach()) for name, tensor in (*block.named_parameters(), *block.named_buffers()))

    @contextmanager
    def replay(self, batch: int) -> Iterator[None]:
        """Let each block return the final hidden states of a batch without running; for use after the last block."""
        hidden = self._hidden[batch]
        output = (hidden, None) if self._returns_tuple else hidden
        with replaced_forwards([(block, lambda *args, **kwargs: output) for block in self._blocks]):
            yield


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
    walk = _Walk(model, blocks, batches)
    for index in track(range(len(blocks)), "block"):
        with resident(model, index):
            walk.advance(index)
    return walk.replay


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


@contextmanager
def _pre_hooks(hooks: Mapping[nn.Module, Callable[..., None]]) -> Iterator[None]:
    """Register these forward pre-hooks inside this context."""
    handles = [module.register_forward_pre_hook(hook, with_kwargs=True) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _same_storage(one: Tensor, other: Tensor) -> bool:
    """Whether two live tensors are the same numbers in the same memory."""
    return one is other or (
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
    )
