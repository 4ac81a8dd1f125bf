"""The walk over a model's decoder blocks: each block's inputs are taken after all earlier blocks were pruned."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar
from weakref import ref

import torch
from torch import Tensor, nn

from prunebench.pruning.block_inputs import layer_statistics
from prunebench.pruning.buffers import TensorList
from prunebench.pruning.calibration import CalibrationData
from prunebench.pruning.callbacks import active_callbacks, layer_finished, track
from prunebench.pruning.hidden_states import HiddenStates
from prunebench.pruning.layers import Layer, block_layers, decoder_blocks, in_parameters, target_of
from prunebench.pruning.offload import resident
from prunebench.pruning.resume import begin_walk, due, keep, kept
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
    turns = _Turns()
    for block in blocks(model, data, sparsity, resume=resume):
        statistics = block.statistics(statistic)
        for layer, target in block.layers:
            if target.zeros:
                turns.begin([(layer, target)])
                yield layer, statistics[layer.name], target
                turns.end()
        del statistics


def blocks(
    model: nn.Module,
    data: CalibrationData,
    sparsity: Sparsity,
    *,
    dense: bool = False,
    teacher: nn.Module | None = None,
    resume: bool = True,
) -> Iterator["Block"]:
    """Every decoder block, with the inputs that the pruned blocks before it produce.

    Finish with a block before asking for the next one, or write to none while you walk. A block is still as it was
    found when its turn comes, so what it gives is a target for what it becomes.

    An interrupted run resumes after the last block that it saved, and yields only the remaining blocks; ``fit`` within
    a block's turn resumes by itself. A method that carries something from one block to the next, or writes outside the
    block, says ``resume=False`` and starts again at the first block.

    Args:
        model: a causal language model in eval mode.
        data: calibration windows.
        sparsity: the pattern asked for.
        dense: whether targets and pairs of inputs are those of the model as it was before the walk, whose hidden
            states are then carried too; else a block's targets are what it gives on the pruned model's inputs.
        teacher: a model of the same architecture, as ``data.teacher``, whose blocks give the targets in place of the
            model's own: for a model that is sparse before the walk. Statistics are then shown no pairs.
        resume: whether an interrupted run may resume in the middle of the walk.

    Yields:
        Blocks, each to be used until the next is asked for.

    Raises:
        UnknownMatrixError: the model holds matrices of a kind that is not known here.
        PatternError: the pattern does not fit a layer.
    """
    modules = decoder_blocks(model)
    for module in modules:  # a pattern that does not fit is told before the walk
        for layer in block_layers(model, module):
            target_of(layer, sparsity)
    batches = torch.split(data.windows, max(1, TOKENS_PER_CALL // data.seqlen))
    states = HiddenStates(model, modules, batches, dense=dense, teacher=teacher)
    name, unsaved = begin_walk(), 0  # the first block that is not saved yet
    while resume and (state := kept(f"{name}/{unsaved}")):
        unsaved = states.restore(unsaved, *state)
    turns = _Turns()
    for index in track(range(unsaved, len(modules)), "block", start=unsaved):
        with resident(model, index):
            layers = [(layer, target_of(layer, sparsity)) for layer in block_layers(model, modules[index])]
            block = Block(index, modules[index], layers, states, dense=dense, taught=teacher is not None)
            last = index + 1 == len(modules)
            outputs = block.targets if dense and not last else None
            turns.begin(layers)
            yield block
            turns.end()
            if resume and due():
                keep(f"{name}/{unsaved}", *states.state(unsaved, index + 1))
                unsaved = index + 1
            if not last:
                states.advance(index, outputs)


class Block:
    """One decoder block in its turn.

    Attributes:
        index: its number, from 0.
        module: the block itself; pass it to ``fit`` as ``model``.
        layers: (layer, target) of each of its linear matrices, in the order of definition.
    """

    def __init__(
        self,
        index: int,
        module: nn.Module,
        layers: list[tuple[Layer, Target]],
        states: HiddenStates,
        *,
        dense: bool,
        taught: bool,
    ) -> None:
        self.index, self.module, self.layers = index, module, layers
        self._states, self._paired, self._taught = states, dense and not taught, taught
        self._targets: TensorList | None = None
        self._versions = self._writes()

    def __len__(self) -> int:
        """How many batches of calibration windows there are: each as many windows as have some 4096 tokens."""
        return len(self._states)

    def statistics(self, statistic: Callable[[Layer], S]) -> dict[str, S]:
        """A statistic of each layer's inputs, taken from the block as it is now.

        Layers that read the same tensor share one. An expert's layers are shown the tokens that are routed to it. In a
        walk with ``dense=True`` a statistic that has ``add_pair(X, D)`` is shown the inputs X (tokens, in) of the
        pruned model with D (tokens, in), those of the dense model; an expert's D is of the tokens that the pruned model
        routes to it.

        Args:
            statistic: called with a layer, returns the object that is shown its inputs.

        Returns:
            By layer name.
        """
        return layer_statistics(
            [layer for layer, _ in self.layers],
            statistic,
            len(self),
            lambda batch: self._states.call(self.index, batch),
            self._states.expert_tokens,
            (lambda batch: self._states.call(self.index, batch, dense=True)) if self._paired else None,
        )

    def run(self, batch: int, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """The block's output on the pruned model's inputs, differentiable by its parameters and by ``weights``.

        Args:
            batch: 0 to ``len(block)`` − 1.
            weights: matrices (out, in) by layer name, in place of the layers' own.

        Returns:
            Hidden states (windows, seqlen, hidden).
        """
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        given = in_parameters([layer for layer, _ in self.layers], weights or {})
        by_name = {names[id(parameter)]: tensor for parameter, tensor in given.items()}
        return self._states.call(self.index, batch, weights=by_name)

    @property
    def targets(self) -> TensorList:
        """By batch, what the block gives as it was found, or the teacher's: hidden states (windows, seqlen, hidden).

        Computed when first asked for. On the inputs of the pruned model, or of the dense one if the walk says so.

        Raises:
            RuntimeError: it is asked for after the block was written to, and there is no teacher.
        """
        if self._targets is None:
            if not self._taught and self._writes() != self._versions:
                raise RuntimeError(
                    f"the targets of block {self.index} were asked for after it was written to: ask before the first"
                )
            self._targets = self._states.outputs(self.index)
        return self._targets

    def _writes(self) -> int:
        """How often its parameters were written to."""
        return sum(parameter._version for parameter in self.module.parameters())


class _Turns:
    """Tells the layer watcher of the layers that a method wrote to: one that only looks need not prune while it walks.

    A layer that was not written in its own turn is told of once it is written while the walk goes on.
    """

    def __init__(self) -> None:
        self._turn: list[tuple[Layer, Target, int]] = []
        self._looked: list[tuple[str, ref[nn.Parameter], int, int, int]] = []

    def begin(self, layers: list[tuple[Layer, Target]]) -> None:
        """The turn of these layers begins."""
        self._turn = [(layer, target, layer.parameter._version) for layer, target in layers if target.zeros]

    def end(self) -> None:
        """Their turn is over."""
        turn, self._turn = self._turn, []
        if active_callbacks().layer_watcher is None:
            return
        for name, parameter, then, zeros, requested in self._looked:
            if (current := parameter()) is not None and current._version != then:
                layer_finished(name, zeros, requested)
        self._looked = [entry for entry in self._looked if (p := entry[1]()) is not None and p._version == entry[2]]
        for layer, target, version in turn:
            zeros, now = int((layer.weight == 0).sum()), layer.parameter._version
            if now != version:
                layer_finished(layer.name, zeros, target.zeros)
            else:
                self._looked.append((layer.name, ref(layer.parameter), now, zeros, target.zeros))
