"""The prunable matrices of a model: every linear one inside the decoder blocks.

A model whose blocks hold a matrix of an unknown kind is refused, and the matrix named: pruning the known matrices and
leaving out the others would look like success.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.pruning.experts import (
    are_experts,
    expert_biases,
    expert_weights,
    is_router,
    stacked_biases,
    stacked_weights,
)
from prunebench.pruning.offload import resident
from prunebench.pruning.sparsity import Held, PatternError, Sparsity, Target


class UnknownMatrixError(ValueError):
    """A model whose structure the toolkit does not know."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear matrix, seen as (out, in) whatever its storage order.

    Args:
        name: the parameter's name in the model, without ``.weight``; for an expert, its number stands before the name
            of the matrix, as in ``model.layers.0.mlp.experts.3.down_proj``.
        module: the module that multiplies by it.
        parameter: the ``nn.Parameter`` behind it, in storage order.
        transposed: True where storage is (in, out), as in transformers' ``Conv1D``.
        expert: the expert's number where ``parameter`` holds a matrix of every expert, (experts, …, …); else None.
    """

    name: str
    module: nn.Module
    parameter: nn.Parameter
    transposed: bool
    expert: int | None = None

    def view(self, tensor: Tensor) -> Tensor:
        """Any tensor of the parameter's shape (a gradient, an optimiser's moment) as an (out, in) view."""
        matrix = tensor if self.expert is None else tensor[self.expert]
        return matrix.t() if self.transposed else matrix

    @property
    def weight(self) -> Tensor:
        """The matrix as a detached (out, in) view; writing to it writes to the model, no ``no_grad`` needed."""
        return self.view(self.parameter.detach())

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        rows, columns = self.view(self.parameter).shape
        return rows, columns


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The decoder blocks: the one outermost ``ModuleList`` of the text decoder with a member for each hidden layer.

    A model of images and text holds its text decoder beside a vision tower, which is left alone.

    Raises:
        UnknownMatrixError: there is none, or more than one.
    """
    config: Any = getattr(model, "config", None)
    decoder: Any = model
    if hasattr(config, "get_text_config") and (text := config.get_text_config(decoder=True)) is not config:
        config, decoder = text, decoder.get_decoder()
    count = getattr(config, "num_hidden_layers", None)
    lists = {
        name: module
        for name, module in decoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if len(outermost) != 1:
        raise UnknownMatrixError(
            f"{type(model).__name__}: expected one list of {count} decoder blocks, found {len(outermost)}"
            f"{' (' + ', '.join(outermost) + ')' if outermost else ''}: this architecture is not known"
        )
    return lists[outermost[0]]


def block_layers(model: nn.Module, block: nn.Module) -> list[Layer]:
    """The linear matrices of one decoder block, in the order of definition.

    Left out is what multiplies no vector of features by a matrix: routers, convolutions, vectors of any shape, and the
    decay rates of state-space blocks (``A_log``), which act on one feature at a time.

    Raises:
        UnknownMatrixError: the block holds a parameter of two or more dimensions that is no known linear matrix.
    """
    prefix = next(name for name, module in model.named_modules() if module is block)
    layers: list[Layer] = []
    known: set[int] = set()
    for name, module in block.named_modules():
        if is_router(name, block):
            known.update(id(parameter) for parameter in module.parameters())
        elif are_experts(module):
            layers += _expert_layers(f"{prefix}.{name}", module)
            known.update(id(bias) for bias in expert_biases(module))
        elif stacked := stacked_weights(module):
            layers += _stacked_layers(f"{prefix}.{name}", module, stacked)
            known.update(id(bias) for bias in stacked_biases(module))
        elif isinstance(module, nn.modules.conv._ConvNd):
            known.add(id(module.weight))
        elif (transposed := _is_transposed(module)) is not None:
            parameter = module.weight
            assert isinstance(parameter, nn.Parameter)
            layers.append(Layer(f"{prefix}.{name}", module, parameter, transposed))
    known.update(id(layer.parameter) for layer in layers)
    for name, parameter in block.named_parameters():
        if not _is_elementwise(name, parameter) and id(parameter) not in known:
            raise UnknownMatrixError(
                f"{type(model).__name__}: {prefix}.{name} of shape {tuple(parameter.shape)} is no linear matrix, "
                "expert or router that is known here: the model is refused rather than pruned in part"
            )
    if not layers:
        raise UnknownMatrixError(f"{type(model).__name__}: {prefix} holds no linear matrix")
    return layers


def _expert_layers(name: str, experts: nn.Module) -> list[Layer]:
    """The matrices of all experts that one module fuses, expert by expert."""
    return _stacked_layers(name, experts, dict.fromkeys(expert_weights(experts), bool(experts.is_transposed)))


def _stacked_layers(name: str, module: nn.Module, transposed: Mapping[str, bool]) -> list[Layer]:
    """The matrices that parameters (count, …, …) of one module hold, number by number."""
    weights = {matrix: module.get_parameter(matrix) for matrix in transposed}
    return [
        Layer(f"{name}.{number}.{matrix}", module, parameter, transposed[matrix], expert=number)
        for number in range(len(next(iter(weights.values()))))
        for matrix, parameter in weights.items()
    ]


def _is_elementwise(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter acts on one feature at a time: a vector, whatever its shape, or decay rates."""
    return sum(size > 1 for size in parameter.shape) <= 1 or name.rpartition(".")[2] == "A_log"


def _is_transposed(module: nn.Module) -> bool | None:
    """Whether a linear module stores its matrix as (in, out); None for a module that is not linear."""
    if isinstance(module, nn.Linear):
        packed = module.weight.shape != (module.out_features, module.in_features)
        return None if packed or not module.weight.is_floating_point() else False
    # By name, since the toolkit does not depend on transformers.
    if f"{type(module).__module__}.{type(module).__name__}" == "transformers.pytorch_utils.Conv1D":
        return True
    return None


def all_layers(model: nn.Module) -> list[Layer]:
    """Every linear matrix inside the decoder blocks, block by block.

    Raises:
        UnknownMatrixError: see ``decoder_blocks`` and ``block_layers``.
    """
    return [layer for block in decoder_blocks(model) for layer in block_layers(model, block)]


def resident_layers(model: nn.Module) -> Iterator[list[Layer]]:
    """The linear matrices of each decoder block; the block stays in memory until the next one is asked for.

    Raises:
        UnknownMatrixError: see ``decoder_blocks`` and ``block_layers``.
    """
    for index, block in enumerate(decoder_blocks(model)):
        with resident(model, index):
            yield block_layers(model, block)


def in_parameters(layers: Iterable[Layer], weights: Mapping[str, Tensor]) -> dict[nn.Parameter, Tensor]:
    """Matrices as tensors that can stand in place of the parameters behind them, differentiable by the matrices.

    Args:
        layers: all layers of the parameters in question.
        weights: matrices (out, in) by layer name; a layer without one keeps its own.

    Returns:
        By parameter, a tensor in its storage order; parameters none of whose layers has a matrix are left out.

    Raises:
        ValueError: a name is that of no layer.
    """
    members: dict[nn.Parameter, list[Layer]] = {}
    for layer in layers:
        members.setdefault(layer.parameter, []).append(layer)
    if unknown := sorted(set(weights) - {layer.name for row in members.values() for layer in row}):
        raise ValueError(f"weights of {unknown[0]}: there is no such layer here; give names of layers, as layer.name")
    found: dict[nn.Parameter, Tensor] = {}
    for parameter, row in members.items():
        if not any(layer.name in weights for layer in row):
            continue
        matrices = [weights.get(layer.name, layer.view(parameter)) for layer in row]
        stored = [matrix.t() if layer.transposed else matrix for layer, matrix in zip(row, matrices, strict=True)]
        found[parameter] = stored[0] if row[0].expert is None else torch.stack(stored)
    return found


def target_of(layer: Layer, sparsity: Sparsity) -> Target:
    """The target that ``sparsity`` sets for one layer.

    Raises:
        PatternError: the pattern does not fit the layer, which is named.
    """
    try:
        target = Target.of(sparsity.for_layer(layer.name), layer.shape)
    except PatternError as error:
        raise PatternError(f"{layer.name}: {error}") from None
    return replace(target, held=lambda: layer.weight != 0) if isinstance(sparsity, Held) else target


def prunable(model: nn.Module, sparsity: Sparsity) -> Iterator[tuple[Layer, Target]]:
    """Every matrix to be pruned, with its target.

    Args:
        model: a causal language model.
        sparsity: the pattern asked for.

    Yields:
        (layer, target), block by block; all targets are checked before the first is yielded. A layer is in memory
        until one of the next block is asked for.

    Raises:
        UnknownMatrixError: the model holds matrices of a kind that is not known here.
        PatternError: the pattern does not fit a layer.
    """
    for layer in all_layers(model):
        target_of(layer, sparsity)
    yield from ((layer, target_of(layer, sparsity)) for layers in resident_layers(model) for layer in layers)
