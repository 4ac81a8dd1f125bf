"""Weights that another tool has pruned: which sparsity they have, and a method that brings them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunebench import hookimpl
from prunebench.errors import ModelError
from prunebench.models.loading import UNUSED, load_model, load_skeleton
from prunebench.models.source import ModelSource, find_model
from prunebench.pruning.callbacks import note
from prunebench.pruning.layers import UnknownMatrixError, all_layers
from prunebench.pruning.sparsity import NM, Pattern, Unstructured

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig

PATTERNS = (NM(1, 4), NM(2, 8), NM(2, 4), NM(4, 8))
"""Patterns of n:m that are looked for, the stricter of two with the same share of zeros first."""
SPECIAL_TOKENS = {"bos_token_id", "eos_token_id", "pad_token_id"}
OF_TRAINING = {"init_std", "initializer_range", "layerdrop", "pretraining_tp"}
WITHOUT_EFFECT = (
    SPECIAL_TOKENS
    | OF_TRAINING
    | {
        "max_position_embeddings",
        "quantization_config",
        "tie_word_embeddings",
        "use_cache",
    }
)
"""What may differ in configurations, beside what all models have, as the dtype. Weights that are tied are compared."""
NEAR = 1e-3
"""A share of zeros this near to one with two decimals is called by that."""


@dataclass(frozen=True)
class Checkpoint:
    """Take the weights of a checkpoint in place of the model's own. Nothing is pruned here.

    Args:
        folder: of the checkpoint, or its id on the hub; the same architecture as the model's.
        digest: SHA-256 (hex) of its files, as ``find_model`` has it, so that a record is of these weights;
            ``prunebench score`` fills it in.
        tokenizer: where the tokenizer is of a checkpoint that was saved without one; of no consequence for its weights.
    """

    revision: ClassVar[int] = 1
    changes: ClassVar[str] = "all"
    brought: ClassVar[bool] = True

    folder: str = ""
    digest: str = ""
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if not self.folder:
            raise ValueError("folder is empty: name the folder of a checkpoint, as folder: ./pruned")
        if not self.digest:
            raise ValueError(
                "digest is empty, so no record would say which weights it is of: prunebench score fills it in"
            )

    @hookimpl
    def prune(self, model: "nn.Module") -> None:
        """Copy every tensor, rounded to the model's dtype."""
        import torch

        source = find_model(self.folder, tokenizer=self.tokenizer)
        if source.digest != self.digest:
            raise ModelError(f"the files of {self.folder} have changed since the suite was planned: run it again")
        unused: list[str] = []
        brought, _ = load_model(source, dtype="auto", device="cpu", unused=unused)
        if unused:
            note(UNUSED, count=len(unused), one=min(unused))
        theirs, ours = brought.state_dict(), model.state_dict()
        refuse_other_shapes(self.folder, theirs, ours)
        refuse_untied(self.folder, theirs, model)
        matrices = {id(layer.parameter) for layer in all_layers(model)}
        others = [name for name, parameter in model.named_parameters() if id(parameter) not in matrices]
        with torch.no_grad():
            if changed := [name for name in others if not torch.equal(theirs[name], ours[name].to(theirs[name]))]:
                note(
                    f"weights that are not pruned differ from the dense model's, {changed[0]} for one",
                    count=len(changed),
                )
            for name, tensor in ours.items():
                tensor.copy_(theirs[name])


def refuse_other_configuration(folder: str, theirs: "PreTrainedConfig", ours: "PreTrainedConfig") -> None:
    """Refuse a model that computes otherwise than the dense one: weights are measured in that one's place.

    Raises:
        ModelError: the kind of model, or a value of its configuration that its figures depend on, is another.
    """
    from transformers import PreTrainedConfig

    without_effect = WITHOUT_EFFECT | PreTrainedConfig().to_dict().keys() - {"model_type"}
    found, expected = theirs.to_dict(), ours.to_dict()
    for key in sorted(found.keys() | expected.keys()):
        if key in without_effect or "dropout" in key or found.get(key) == expected.get(key):
            continue
        raise ModelError(
            f"{folder} is of another architecture than the dense model: {key} is {found.get(key)!r} in the "
            f"checkpoint's config.json and {expected.get(key)!r} in the dense model's"
        )


def refuse_other_shapes(folder: str, theirs: "dict[str, Tensor]", ours: "dict[str, Tensor]") -> None:
    """Refuse weights of another architecture.

    Raises:
        ModelError: a tensor is missing, is not in the model, or has another shape.
    """
    if names := sorted(theirs.keys() ^ ours.keys()):
        where = "the checkpoint" if names[0] in theirs else "the dense model"
        raise ModelError(
            f"{folder} is of another architecture than the dense model: {len(names)} tensors are in one of them alone, "
            f"{names[0]} in {where}"
        )
    for name, tensor in theirs.items():
        if tensor.shape != ours[name].shape:
            raise ModelError(
                f"{folder} is of another architecture than the dense model: {name} is {tuple(tensor.shape)} in the "
                f"checkpoint and {tuple(ours[name].shape)} in the dense model"
            )


def refuse_untied(folder: str, theirs: "dict[str, Tensor]", dense: "nn.Module") -> None:
    """Refuse weights that differ where the dense model has one, as its embedding and its head: one would be lost.

    Raises:
        ModelError: two such tensors differ.
    """
    import torch

    names: dict[int, str] = {}
    for name, parameter in dense.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if name != first and not torch.equal(theirs[name], theirs[first]):
            raise ModelError(f"{first} and {name} are one weight of the dense model, and two that differ in {folder}")


def sparsity_of(checkpoint: ModelSource, dense: str) -> Pattern:
    """The sparsity of a checkpoint, as tables call it: n:m where every group of every matrix keeps to it, else a share.

    Args:
        checkpoint: found by its folder, or its id on the hub.
        dense: the model that it was made from.

    Returns:
        One of ``PATTERNS`` where its zeros are all there; else the share of zeros of all prunable matrices together,
        with two decimals where that is near.

    Raises:
        ModelError: it is of another architecture, holds NaN or infinity, or no zeros, or nothing else.
    """
    folder = checkpoint.source
    model, _ = load_model(checkpoint, dtype="auto", device="cpu")
    skeleton = load_skeleton(find_model(dense))
    refuse_other_shapes(folder, model.state_dict(), skeleton.state_dict())
    refuse_other_configuration(folder, model.config, skeleton.config)
    refuse_untied(folder, model.state_dict(), skeleton)
    for name, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{folder} holds NaN or infinity in {name}: it cannot be measured")
    zeros = weights = 0
    fitting = list(PATTERNS)
    try:
        layers = all_layers(model)
    except UnknownMatrixError as error:
        raise ModelError(f"{folder} cannot be measured: {error}") from None
    for layer in layers:
        kept = layer.weight != 0
        zeros, weights = zeros + int((~kept).sum()), weights + kept.numel()
        fitting = [p for p in fitting if kept.shape[1] % p.m == 0 and _most_kept(kept, p.m) <= p.n]
    share = zeros / weights
    if share < NEAR:
        raise ModelError(
            f"{folder} is dense: {zeros} of its {weights} prunable weights are zero; name the folder of the "
            "pruned model"
        )
    if zeros == weights:
        raise ModelError(f"all {weights} prunable weights of {folder} are zero: there is nothing to measure")
    for pattern in fitting:
        if abs(share - pattern.ratio) <= NEAR:
            return pattern
    near = round(share, 2)
    return Unstructured(near if near < 1 and abs(share - near) <= NEAR else min(round(share, 4), 1 - NEAR / 10))


def _most_kept(kept: "Tensor", m: int) -> int:
    return int(kept.reshape(-1, m).sum(dim=1).max())
