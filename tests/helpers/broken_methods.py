"""Methods that break the contract, each in one way; a plugin file as ``--plugin`` takes it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from prunebench import hookimpl
from prunebench.pruning import NM, FeatureNorm, Layer, Target, Unstructured, calibrated, prunable


def magnitude(model: Any, sparsity: Any) -> None:
    for layer, target in prunable(model, sparsity):
        keep(layer, target)


def keep(layer: Layer, target: Target) -> None:
    layer.weight.masked_fill_(~target.mask(layer.weight.abs()), 0)


@dataclass
class Thawed:
    """A dataclass that is not frozen."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)


@dataclass(frozen=True)
class Misspells:
    """An argument that would never be filled."""

    @hookimpl
    def prune(self, model: Any, sparsty: Any = Unstructured(0.5)) -> None:  # noqa: B008
        magnitude(model, sparsty)


@dataclass(frozen=True)
class Untold:
    """An option that nobody explains."""

    power: float = 1.0

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)


@dataclass(frozen=True)
class Mistyped:
    """A default of another type.

    Args:
        power: a number.
    """

    power: float = "1"  # type: ignore[assignment]

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)


@dataclass(frozen=True)
class Demanding:
    """An option without a default.

    Args:
        power: a number.
    """

    power: float

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)


@dataclass(frozen=True)
class Raises:
    """Gives up."""

    @hookimpl
    def prune(self) -> None:
        raise RuntimeError("out of ideas")


@dataclass(frozen=True)
class LlamaOnly:
    """Knows one architecture's names."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        model.model.layers[0].self_attn.q_proj.weight.detach().mul_(1)
        magnitude(model, sparsity)


@dataclass(frozen=True)
class TooLittle:
    """Forgets the last layer."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in list(prunable(model, sparsity))[:-1]:
            keep(layer, target)


@dataclass(frozen=True)
class TooMuch:
    """Prunes one weight more."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        for layer, _ in prunable(model, sparsity):
            row, column = layer.weight.nonzero()[0]
            layer.weight[row, column] = 0


@dataclass(frozen=True)
class Groupless:
    """Reads n:m as a share."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            keep(layer, Target.of(Unstructured(target.pattern.ratio), layer.shape))


@dataclass(frozen=True)
class ByRatio:
    """Asks every layer for what is asked for on the whole."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        whole = sparsity if isinstance(sparsity, NM) else Unstructured(sparsity.ratio)
        magnitude(model, whole)


@dataclass(frozen=True)
class NotANumber:
    """Divides zero by zero."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            keep(layer, target)
            layer.weight.div_((layer.weight != 0).float())


@dataclass(frozen=True)
class TouchesEmbeddings:
    """Prunes the embeddings too."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        model.get_input_embeddings().weight.detach()[3].zero_()


@dataclass(frozen=True)
class ChangesDtype:
    """Leaves half precision behind."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        for layer, _ in prunable(model, sparsity):
            layer.parameter.data = layer.parameter.data.half()


@dataclass(frozen=True)
class Shrinks:
    """Cuts rows off."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        layer = model.model.layers[0].self_attn.q_proj
        layer.weight = nn.Parameter(layer.weight.detach()[:16].clone())


class Wrapped(nn.Module):
    """No linear layer that anybody knows."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return X @ self.weight.t()


@dataclass(frozen=True)
class Wraps:
    """Puts a module in place of another."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        attention = model.model.layers[0].self_attn
        attention.q_proj = Wrapped(attention.q_proj.weight)


@dataclass(frozen=True)
class LeavesHook:
    """Forgets a handle."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        next(model.children()).register_forward_hook(lambda *_: None)


@dataclass(frozen=True)
class LeavesTrainMode:
    """Forgets to call eval()."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        model.train()


@dataclass(frozen=True)
class TurnsCacheOff:
    """Writes to the configuration."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        model.config.use_cache = False


@dataclass(frozen=True)
class DrawsGlobally:
    """Breaks ties with the global generator."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            scores = layer.weight.abs().float()
            layer.weight.masked_fill_(~target.mask(scores + 1e-12 * torch.rand_like(scores)), 0)


@dataclass(frozen=True)
class WritesToData:
    """Shuffles the windows in place."""

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        data.windows.copy_(data.windows.flip(0))
        magnitude(model, sparsity)


@dataclass(frozen=True)
class Remembers:
    """Keeps the masks of the last model for the next one."""

    masks: ClassVar[dict[str, Any]] = {}

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            key = f"{layer.name} {target}"
            self.masks.setdefault(key, target.mask(layer.weight.abs()))
            layer.weight.masked_fill_(~self.masks[key], 0)


@dataclass(frozen=True)
class Prints:
    """Talks to stdout."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        print("pruned!")  # noqa: T201


class Inputs:
    """All that a layer was shown."""

    def __init__(self, layer: Layer) -> None:
        self.seen: list[torch.Tensor] = []

    def add(self, X: torch.Tensor) -> None:
        self.seen.append(X.clone())


@dataclass(frozen=True)
class WritesLate:
    """Writes a layer when it has the next one."""

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        late = None
        for layer, _, target in calibrated(model, data, sparsity, Inputs):
            if late:
                keep(*late)
            late = layer, target
        if late:
            keep(*late)


@dataclass(frozen=True)
class Carries:
    """Lets what all layers so far were shown decide."""

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        norms = 0.0
        for layer, norm, target in calibrated(model, data, sparsity, FeatureNorm):
            norms += float(norm.value.sum())
            layer.weight.masked_fill_(~target.mask(layer.weight.abs() * (norm.value + norms)), 0)


@dataclass(frozen=True)
class Hoards:
    """Keeps the inputs of every layer until the end."""

    @hookimpl
    def prune(self, model: Any, data: Any, sparsity: Any) -> None:
        hoard = []
        for layer, inputs, target in calibrated(model, data, sparsity, Inputs):
            hoard.append([X.clone() for X in inputs.seen])
            keep(layer, target)


@dataclass(frozen=True)
class Dices:
    """Another seed at each run."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        dice = torch.Generator()
        dice.seed()
        for layer, target in prunable(model, sparsity):
            layer.weight.masked_fill_(~target.mask(torch.rand(layer.shape, generator=dice)), 0)


@dataclass(frozen=True)
class Scales:
    """Makes up for pruned weights where none was pruned."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        for layer, _ in prunable(model, sparsity):
            layer.weight.mul_(1.5)


@dataclass(frozen=True)
class Unties:
    """Gives the head a parameter of its own."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        head = model.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone())


@dataclass(frozen=True)
class UntiesConfig:
    """Says that the head is untied, so that it is not saved and not tied when loaded."""

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        magnitude(model, sparsity)
        model.config.tie_word_embeddings = False
        model.get_output_embeddings().weight.requires_grad_(False)


@dataclass(frozen=True)
class MovesMasks:
    """Follows another method, whose masks it says it holds, and chooses by itself."""

    mask: ClassVar = "held"
    after: ClassVar[bool] = True

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None:
        for layer, target in prunable(model, sparsity):
            layer.weight.copy_(layer.weight.roll(1, dims=0) if ":" not in str(target.pattern) else layer.weight)
