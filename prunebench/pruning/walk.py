"""The walk over a model's decoder blocks: each block's inputs are taken after all earlier blocks were pruned."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.pruning.buffers import Arguments, Shelf, Tensors, fetched
from prunebench.pruning.calibration import CalibrationData, S
from prunebench.pruning.callbacks import passed, track
from prunebench.pruning.layers import Layer, block_layers, decoder_blocks, target_of
from prunebench.pruning.offload import resident, store_of
from prunebench.pruning.resume import due, keep, kept, walk_name
from prunebench.pruning.routing import Routing, inputs_of
from prunebench.pruning.sparsity import Sparsity, Target
from prunebench.pruning.statistics import Statistic

TOKENS_PER_CALL = 4096


def calibrated(
    model: nn.Module,
    data: CalibrationData,
    sparsity: Sparsity,
    statistic: Callable[[Layer], S],
    *,
    resume: bool = True,
) -> Iterator[tuple[Layer, S, Target]]:
    """Every matrix to be pruned, with a statistic of its inputs.

    Goes block by block. A block's inputs are what the earlier blocks, already pruned, make of ``data.windows``; the
    statistics of its layers are taken while the block itself is still dense. Prune the layer before asking for the
    next one. Layers that read the same tensor (q, k, v; gate, up) share one statistic object. An expert's layers are
    shown the tokens that are routed to it; see ``prunebench.pruning.experts`` for one that sees few or none.

    A run that was interrupted goes on after the last block that it kept, and yields the layers of the rest only. So
    what is done to a layer may depend on nothing but the layer and its statistic; a method that carries something from
    one layer to the next, or writes outside the block, says ``resume=False`` and starts again at the first block.

    Args:
        model: a causal language model in eval mode.
        data: calibration windows.
        sparsity: the pattern asked for.
        statistic: called with a layer, makes what its inputs are shown to: ``Hessian``, ``FeatureNorm`` or your own.
        resume: whether an interrupted run may go on in the middle of the walk.

    Yields:
        (layer, statistic, target); a layer of which no zero is asked is passed over.

    Raises:
        UnknownMatrixError: the model holds matrices of a kind that is not known here.
        PatternError: the pattern does not fit a layer.
    """
    blocks = decoder_blocks(model)
    targets = [[target_of(layer, sparsity) for layer in block_layers(model, block)] for block in blocks]
    walk = _Walk(model, blocks, torch.split(data.windows, max(1, TOKENS_PER_CALL // data.seqlen)))
    name, new = walk_name(), 0  # the first block that is not kept yet
    while resume and (found := kept(f"{name}/{new}")):
        new = walk.restore(new, *found)
    for index in track(range(new, len(blocks)), "block", start=new):
        with resident(model, index):
            layers = block_layers(model, blocks[index])
            statistics = walk.statistics(index, layers, statistic)
            for layer, seen, target in zip(layers, statistics, targets[index], strict=True):
                if target.zeros:
                    yield layer, seen, target
                    passed(layer, target)
            del statistics
            if resume and due():
                keep(f"{name}/{new}", *walk.state(new, index + 1))
                new = index + 1
            if index + 1 < len(blocks):
                walk.advance(index)


class _Stop(Exception):  # noqa: N818 - no error
    """Ends a forward pass whose rest nobody reads."""


class _Walk:
    """Hidden states of all windows at the entrance of one block, and the other arguments of every block's call."""

    def __init__(self, model: nn.Module, blocks: nn.ModuleList, batches: Iterable[Tensor]) -> None:
        self._blocks = list(blocks)
        shelf = Shelf(model)
        self._hidden, self._arguments = Tensors(shelf, "hidden"), Arguments(shelf)
        self._calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = [[] for _ in self._blocks]
        self._routing = Routing()
        self._returns_tuple = False
        with resident(model, 0):
            self._capture(model, batches)

    @torch.no_grad()
    def _capture(self, model: nn.Module, batches: Iterable[Tensor]) -> None:
        """Run the model with its blocks replaced by recorders: only what surrounds them is computed.

        Each block's own arguments are kept, since they differ between blocks (sliding and full attention, local and
        global rotary embeddings) and may depend on the tokens; equal tensors are kept once.
        """
        returns_tuple: list[bool] = []

        def recorder(index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
            def record(*args: Any, **kwargs: Any) -> Any:
                hidden, rest = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
                if index == 0:
                    self._hidden.append(hidden)
                self._calls[index].append((self._arguments.keep(rest), self._arguments.keep(kwargs)))
                if index + 1 == len(self._blocks):
                    raise _Stop
                if not returns_tuple:
                    returns_tuple.append(isinstance(forward(hidden, *rest, **kwargs), tuple))
                return (hidden, None) if returns_tuple[0] else hidden

            return record

        device = next(parameter.device for parameter in model.parameters() if not parameter.is_meta)
        with replaced([(block, recorder(index, block.forward)) for index, block in enumerate(self._blocks)]):
            for batch in batches:
                with suppress(_Stop):
                    model(input_ids=batch.to(device), use_cache=False)

    def _call(self, index: int, batch: int) -> Tensor:
        args, kwargs = fetched(self._calls[index][batch])
        output = self._blocks[index](self._hidden[batch], *args, **kwargs)
        self._returns_tuple = isinstance(output, tuple)
        hidden: Tensor = output[0] if self._returns_tuple else output
        return hidden

    @torch.no_grad()
    def statistics(self, index: int, layers: list[Layer], statistic: Callable[[Layer], S]) -> list[S]:
        """Show each layer's inputs in one block to its statistic; in the order of ``layers``."""
        readers: dict[nn.Module, list[Layer]] = {}
        for layer in layers:
            readers.setdefault(layer.module, []).append(layer)
        owners: dict[str, S] = {}
        leaders = self._find_leaders(index, readers, statistic, owners)
        last = leaders[-1].module

        def hook(chosen: list[Layer]) -> Callable[..., None]:
            def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                for layer, X in inputs_of(chosen, args, kwargs):
                    self._show(layer, owners[layer.name], X)
                if module is last:
                    raise _Stop

            return see

        first = set(leaders)
        with _hooked({m: hook(chosen) for m, row in readers.items() if (chosen := [x for x in row if x in first])}):
            for batch in range(1, len(self._hidden)):
                with suppress(_Stop):
                    self._call(index, batch)
        self._routing.tell([(layer, owners[layer.name]) for layer in layers if layer.expert is not None])
        return [owners[layer.name] for layer in layers]

    def _find_leaders(
        self, index: int, readers: dict[nn.Module, list[Layer]], statistic: Callable[[Layer], S], owners: dict[str, S]
    ) -> list[Layer]:
        """Run the first batch: fill ``owners`` and return the first reader of each input tensor, in calling order."""
        leaders: list[Layer] = []
        inputs: list[tuple[Tensor, S]] = []  # keeps the tensors alive, so that equal addresses mean equal tensors

        def hook(row: list[Layer]) -> Callable[..., None]:
            def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                for layer, X in inputs_of(row, args, kwargs):
                    shared = [owner for tensor, owner in inputs if layer.expert is None and _same_storage(tensor, X)]
                    owner = shared[0] if shared else statistic(layer)
                    owners[layer.name] = owner
                    if not shared:
                        self._show(layer, owner, X)
                        leaders.append(layer)
                        if layer.expert is None:
                            inputs.append((X, owner))

            return see

        with _hooked({module: hook(row) for module, row in readers.items()}):
            self._call(index, 0)
        if missing := [layer.name for row in readers.values() for layer in row if layer.name not in owners]:
            raise RuntimeError(f"{missing[0]} is never called when its block runs: it cannot be calibrated")
        return leaders

    def _show(self, layer: Layer, statistic: Statistic, X: Tensor) -> None:
        """Show a layer's inputs to its statistic; an expert that no token of the batch reached has none."""
        if layer.expert is not None:
            self._routing.count(layer, len(X))
        if len(X):
            statistic.add(X.reshape(-1, X.shape[-1]))

    @torch.no_grad()
    def advance(self, index: int) -> None:
        """Replace the hidden states by what the (now pruned) block makes of them, in the same buffer."""
        for batch in range(len(self._hidden)):
            self._hidden[batch] = self._call(index, batch)

    def state(self, start: int, end: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the blocks from ``start`` up to ``end`` hold, each tensor once; and how tokens were routed so far."""
        held = {f"{index}.{name}": tensor for index in range(start, end) for name, tensor in self._held(index)}
        return held, {"end": end, "expert_tokens": self._routing.tokens}

    def restore(self, start: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> int:
        """Put blocks back as they were kept from ``start`` on, and go through them; returns the first after them."""
        end: int = facts["end"]
        self._routing.tokens = dict(facts["expert_tokens"])
        for index in range(start, end):
            for name, tensor in self._held(index):
                tensor.copy_(tensors[f"{index}.{name}"])
            if index + 1 < len(self._blocks):
                self.advance(index)
        return end

    def _held(self, index: int) -> Iterator[tuple[str, Tensor]]:
        block = self._blocks[index]
        return ((name, tensor.detach()) for name, tensor in (*block.named_parameters(), *block.named_buffers()))

    @contextmanager
    def replay(self, batch: int) -> Iterator[None]:
        """A model that runs no block, once all have run over a batch: what they made of it comes out of each."""
        hidden = self._hidden[batch]
        output = (hidden, None) if self._returns_tuple else hidden
        with replaced([(block, lambda *args, **kwargs: output) for block in self._blocks]):
            yield


def walked(model: nn.Module, batches: Sequence[Tensor]) -> Callable[[int], AbstractContextManager[None]]:
    """Run each decoder block over all batches before the next one, where blocks come from disk.

    Args:
        model: a causal language model in eval mode; one that is in memory is left as it is.
        batches: token ids, (batch, length) each.

    Returns:
        Called with a batch's number, a context in which the model, called with that batch, has its blocks behind it.
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
def replaced(forwards: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Modules that do something else when they are called, for a while."""
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
def _hooked(hooks: Mapping[nn.Module, Callable[..., None]]) -> Iterator[None]:
    """These forward pre-hooks, for a while."""
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
