"""Effort: the tokens that go forward and backward through a model while it is pruned, and the operations they take.

PyTorch's global module hooks are used, not hooks on the model's own modules: they see every call of a module in this
process, also of copies of the model (a teacher), of modules that a method puts in place of others, and of modules whose
``forward`` is replaced; nothing is left on the model that a method could pickle or clear. The methods say nothing
themselves, but they run in this process and could disturb the counting: what is counted here is declared by the
pruning process, as its notes are.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from prunebench.pruning.callbacks import use_replays
from prunebench.pruning.experts import are_experts, expert_biases, expert_weights
from prunebench.pruning.layers import block_layers, decoder_blocks
from prunebench.suite.fields import Strict

Training = Literal["none", "block", "end-to-end"]
MARK = "_prunebench_place"
_BLOCK = -2


class _Place(NamedTuple):
    """Where a module stands in the model.

    Args:
        block: number of its decoder block; -1 outside of blocks.
        slot: number of its token counter; -1 if it does not count tokens, ``_BLOCK`` for a block itself.
        parameters: that one row of its input is multiplied with.
        kind: how its input is read: "linear" (…, features), "experts", or "other" (batch, tokens, …).
    """

    block: int
    slot: int
    parameters: int
    kind: str


_NOWHERE = _Place(-1, -1, 0, "other")


class Counts(Strict):
    """What was counted.

    Args:
        forward_tokens, backward_tokens: tokens times passes: those that entered any decoder block, divided by the
            number of blocks, to the nearest integer.
        flops: 2 for each parameter that a token meets on its way forward, 4 on its way backward. A table of embeddings
            is read, not multiplied with, and counts nothing; an expert counts for the tokens that are routed to it.
        training: whether gradients went through no block, never through more than one at a time, or through several.
    """

    forward_tokens: Annotated[int, Field(ge=0, lt=1 << 63)]
    backward_tokens: Annotated[int, Field(ge=0, lt=1 << 63)]
    flops: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    training: Training


class EffortMeter:
    """Counts inside its context what goes through a model and its copies.

    Each module with parameters of its own counts the rows that it is called with, so that any loop is counted in the
    same way: a call of the whole model, of one block, or of one layer. The tokens of a block are those of its module
    that has seen the most. A pass counts when it begins: of one that is broken off, or that checkpointing computes
    once more, all modules that were called count. Code of ``torch.compile`` counts in tensors, as part of its graph;
    each of its passes that keeps a graph is taken to go backward once.

    Args:
        model: a causal language model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._places = _places(model)
        self._block_of = [place.block for place in self._places if place.slot >= 0]
        self._blocks = len(decoder_blocks(model))
        slots = len(self._block_of)
        self._forward, self._backward = [0] * slots, [0] * slots
        self._operations, self._several, self._paused = 0, False, False
        self._task = (-1, -1)  # the latest backward pass, and a block that it went through
        device = next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
        self._compiled = torch.zeros(2, slots, dtype=torch.int64, device=device)
        # Operations, backward passes of any module, backward passes that go on from a block to what precedes it.
        self._compiled_sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._adopt(self._model)
        hooks = (
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, with_kwargs=True),
        )
        for hook in hooks:
            self._stack.callback(hook.remove)
        self._stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=r"Using `torch\.compile\(module\)` when there are global hooks")
        self._stack.enter_context(use_replays(self._replay))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for module in self._model.modules():
            module.__dict__.pop(MARK, None)

    def counts(self) -> Counts:
        """What was counted so far."""
        operations, anywhere, onward = self._compiled_sums.tolist()
        forward, backward = self._compiled.tolist()
        totals = [
            self._tokens([one + other for one, other in zip(ours, theirs, strict=True)])
            for ours, theirs in ((self._forward, forward), (self._backward, backward))
        ]
        several = self._several or onward > 0
        training: Training = "end-to-end" if several else "block" if self._task[0] >= 0 or anywhere else "none"
        flops = 2.0 * self._operations + 2.0 * operations
        return Counts(forward_tokens=totals[0], backward_tokens=totals[1], flops=flops, training=training)

    def _tokens(self, by_slot: list[int]) -> int:
        most = [0] * self._blocks
        for block, tokens in zip(self._block_of, by_slot, strict=True):
            most[block] = max(most[block], tokens)
        return (2 * sum(most) + self._blocks) // (2 * self._blocks)

    def state(self) -> list[Any]:
        """All counts, as JSON, for ``restore``."""
        compiled = [self._compiled.tolist(), self._compiled_sums.tolist()]
        return [self._forward, self._backward, self._operations, self._several, self._task[0] >= 0, *compiled]

    def restore(self, state: list[Any]) -> None:
        """Go on from the counts of an interrupted run."""
        self._forward, self._backward, self._operations, self._several = list(state[0]), list(state[1]), *state[2:4]
        self._task = (0, -1) if state[4] else (-1, -1)
        for tensor, content in zip((self._compiled, self._compiled_sums), state[5:], strict=True):
            tensor.copy_(torch.tensor(content))

    @contextmanager
    def _replay(self) -> Iterator[None]:
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def _adopt(self, model: nn.Module) -> None:
        """Mark the modules of the model, or of another one of its structure."""
        modules = list(model.modules())
        alike = len(modules) == len(self._places) and type(model) is type(self._model)
        for module, place in zip(modules, self._places, strict=True) if alike else ((model, _NOWHERE),):
            module.__dict__.setdefault(MARK, place)

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module is called: its rows count, unless they come by keyword; then they count when it returns."""
        place: _Place | None = module.__dict__.get(MARK)
        if place is None:
            if "config" in module.__dict__ and not torch.compiler.is_compiling():
                self._adopt(module)
            place = _place_of(module)
        if place is not None and place.parameters and args:
            self._count_forward(place, args[0], args)

    def _count_forward(self, place: _Place, x: Any, args: tuple[Any, ...]) -> None:
        if not isinstance(x, Tensor) or x.dim() == 0:
            return
        if torch.compiler.is_compiling():
            rows = _rows(x, place.kind, args)
            self._compiled_sums[0].add_(place.parameters * rows)
            if place.slot >= 0:
                self._compiled[0, place.slot].add_(rows)
        elif not self._paused:
            rows = _eager_rows(x, place.kind, args)
            self._operations += place.parameters * rows
            if place.slot >= 0:
                self._forward[place.slot] += rows

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """A module returns: what it computed will count once more when a gradient goes back through it."""
        place = _place_of(module)
        if place is None or not (place.parameters or place.slot == _BLOCK):
            return
        if not args:
            args = tuple(kwargs.values())
            if args and place.parameters:
                self._count_forward(place, args[0], args)
        result = output[0] if isinstance(output, tuple) and output else output
        if not args or not isinstance(args[0], Tensor) or not isinstance(result, Tensor) or not result.requires_grad:
            return
        if torch.compiler.is_compiling():
            if place.slot == _BLOCK and args[0].requires_grad:
                self._compiled_sums[2].add_(1)
            if place.parameters:
                rows = _rows(args[0], place.kind, args)
                self._compiled_sums[0].add_(2 * place.parameters * rows)
                self._compiled_sums[1].add_(1)
                if place.slot >= 0:
                    self._compiled[1, place.slot].add_(rows)
        elif place.parameters and not self._paused and result.grad_fn is not None:
            self._await_gradient(place, _eager_rows(args[0], place.kind, args), result.grad_fn)

    def _await_gradient(self, place: _Place, rows: int, node: Any) -> None:
        # A checkpointed block is called inside the backward pass that needs it, and has a backward pass of its own.
        outer = torch._C._current_graph_task_id()

        def arrived(gradients: Any) -> None:
            self._operations += 2 * place.parameters * rows
            if place.slot >= 0:
                self._backward[place.slot] += rows
            task = outer if outer >= 0 else torch._C._current_graph_task_id()
            if task != self._task[0]:
                self._task = (task, place.block)
            elif place.block >= 0 and place.block != self._task[1]:
                self._several |= self._task[1] >= 0
                self._task = (task, place.block)

        node.register_prehook(arrived)


def _places(model: nn.Module) -> list[_Place]:
    """The place of every module, in the order of ``model.modules()``."""
    config: Any = model.config
    width = getattr(config.get_text_config(), "hidden_size", None)
    blocks = list(decoder_blocks(model))
    block_of = {module: index for index, block in enumerate(blocks) for module in block.modules()}
    linear = {layer.module for block in blocks for layer in block_layers(model, block) if layer.expert is None}
    places: list[_Place] = []
    slots = 0
    for module in model.modules():
        block, parameters, kind = block_of.get(module, -1), _own_parameters(module), _kind_of(module)
        # Experts would miss the tokens that are routed elsewhere; a norm of single heads has more rows than tokens.
        is_norm = any(p.dim() == 1 and len(p) == width for p in module._parameters.values() if p is not None)
        counts = block >= 0 and kind != "experts" and (module in linear or is_norm)
        slot = _BLOCK if module in blocks else slots if counts else -1
        slots += slot >= 0
        places.append(_Place(block, slot, parameters, kind))
    return places


def _place_of(module: nn.Module) -> _Place | None:
    """The place of a module, also of one that a method made; None if it has no parameters of its own."""
    place: _Place | None = module.__dict__.get(MARK)
    if place is None and module.__dict__.get("_parameters"):
        return _Place(-1, -1, _own_parameters(module), _kind_of(module))
    return place


def _own_parameters(module: nn.Module) -> int:
    """Parameters that one row of a module's input meets in the module itself; one expert's in a module of experts."""
    if isinstance(module, nn.Embedding):
        return 0
    if _kind_of(module) == "experts":
        weights = expert_weights(module)
        experts = len(next(iter(weights.values())))
        return sum(p.numel() for p in (*weights.values(), *expert_biases(module))) // experts
    return sum(p.numel() for p in module._parameters.values() if p is not None)


def _kind_of(module: nn.Module) -> str:
    if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
        return "linear"
    return "experts" if are_experts(module) else "other"


def _rows(x: Tensor, kind: str, args: tuple[Any, ...]) -> int:
    """How many tokens a module is called with; for experts the pairs of a token and an expert that it is routed to."""
    if kind == "linear":
        return x.numel() // x.shape[-1]
    if kind == "experts" and len(args) > 1 and isinstance(args[1], Tensor):
        return args[1].numel()
    return x.shape[0] * x.shape[1] if x.dim() > 2 else x.shape[0]


def _eager_rows(x: Tensor, kind: str, args: tuple[Any, ...]) -> int:
    """The same, with the dimensions that ``torch.func.vmap`` hides."""
    rows, numel = _rows(x, kind, args), x.numel()
    if not torch._C._functorch.is_functorch_wrapped_tensor(x):
        return rows
    inner = x
    while torch._C._functorch.is_functorch_wrapped_tensor(inner):
        inner = torch._C._functorch.get_unwrapped(inner)
    return rows * (inner.numel() // max(numel, 1))
