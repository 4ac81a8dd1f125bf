"""What the runner checks of every method, believing nothing: the contract of ``prunebench.hookspecs``."""

import hashlib
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.errors import ContractError
from prunebench.pruning import NM, Sparsity, prunable
from prunebench.record import MatrixCount, SparsityFacts


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes, wherever it lies."""
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype} {tuple(plain.shape)}".encode()
    return hashlib.sha256(head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Snapshot:
    """What was asked for, what must be the same after pruning as before, and how many zeros there were.

    Args:
        sparsity: what was asked for.
        changes: what the method may change: "prunable", "all" or "nothing".
        tensors: dtype, device and shape of every parameter and buffer.
        digests: of those that may not change.
        zeros: in each prunable matrix.
        modes: train or eval, of each module.
        use_cache: of the model's configuration.
        hooks: how many there were.
        generators: digest of the global generators' state.
    """

    sparsity: Sparsity
    changes: str
    tensors: dict[str, tuple[torch.dtype, torch.device, torch.Size]]
    digests: dict[str, str]
    zeros: dict[str, int]
    modes: dict[str, bool]
    use_cache: Any
    hooks: int
    generators: str

    @classmethod
    def of(cls, model: nn.Module, sparsity: Sparsity, changes: str) -> "Snapshot":
        """Look at a model before it is pruned."""
        layers = [layer for layer, _ in prunable(model, sparsity)]
        may_change = {id(layer.parameter) for layer in layers} if changes == "prunable" else set()
        tensors = _tensors(model)
        return cls(
            sparsity=sparsity,
            changes=changes,
            tensors={name: (tensor.dtype, tensor.device, tensor.shape) for name, tensor in tensors.items()},
            digests={
                name: tensor_digest(tensor)
                for name, tensor in tensors.items()
                if changes != "all" and id(tensor) not in may_change
            },
            zeros={layer.name: int((layer.weight == 0).sum()) for layer in layers},
            modes={name: module.training for name, module in model.named_modules()},
            use_cache=getattr(getattr(model, "config", None), "use_cache", None),
            hooks=_count_hooks(model),
            generators=_generators(),
        )

    def verify(self, model: nn.Module) -> SparsityFacts:
        """Compare a model after pruning with this snapshot of it.

        Returns:
            The zeros counted.

        Raises:
            ContractError: the first clause that does not hold, with the measured value.
        """
        self._verify_surroundings(model)
        matrices = self._verify_zeros(model)
        self._verify_tensors(model)
        zeros, numel = (sum(getattr(count, part) for count in matrices.values()) for part in ("zeros", "numel"))
        parameters = list(model.parameters())
        return SparsityFacts(
            requested=0.0 if self.changes == "nothing" else self.sparsity.ratio,
            reached=zeros / numel,
            whole_model=sum(int((p == 0).sum()) for p in parameters) / sum(p.numel() for p in parameters),
            parameters=sum(p.numel() for p in parameters),
            parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
            matrices=matrices,
        )

    def _verify_surroundings(self, model: nn.Module) -> None:
        if changed := [name for name, module in model.named_modules() if module.training != self.modes.get(name)]:
            raise ContractError(f"the module {changed[0]!r} was left in another mode (train or eval) than it was found")
        if getattr(getattr(model, "config", None), "use_cache", None) != self.use_cache:
            raise ContractError(f"config.use_cache was {self.use_cache} and was left otherwise")
        if (left := _count_hooks(model) - self.hooks) != 0:
            raise ContractError(f"{left} hooks or patched forwards were left on the model")
        if _generators() != self.generators:
            raise ContractError("a global random generator was used: draw from a generator seeded by data.seed")

    def _verify_zeros(self, model: nn.Module) -> dict[str, MatrixCount]:
        asked, matrices = self.changes != "nothing", {}
        for layer, target in prunable(model, self.sparsity):
            W = layer.weight
            if not torch.isfinite(W).all():
                raise ContractError(f"{layer.name} holds NaN or infinity after pruning")
            zeros, before = int((W == 0).sum()), self.zeros.get(layer.name, 0)
            matrices[layer.name] = MatrixCount(numel=W.numel(), zeros=zeros)
            # Weights that were zero before pruning may stand among the kept ones.
            if asked and not target.zeros <= zeros <= target.zeros + before:
                raise ContractError(
                    f"{layer.name} holds {zeros} zeros where {target.zeros} of {W.numel()} were asked for"
                )
            if asked and isinstance(target.pattern, NM):
                n, m = target.pattern.n, target.pattern.m
                worst = int((W.reshape(-1, m) != 0).sum(dim=1).max())
                if worst > n:
                    raise ContractError(f"{layer.name} keeps {worst} weights in a group of {m} where {n} are allowed")
        return matrices

    def _verify_tensors(self, model: nn.Module) -> None:
        after = _tensors(model)
        if set(after) != set(self.tensors):
            raise ContractError(
                f"parameters were added or removed: {', '.join(sorted(set(after) ^ set(self.tensors)))}"
            )
        for name, tensor in after.items():
            dtype, device, shape = self.tensors[name]
            if (tensor.dtype, tensor.device, tensor.shape) != (dtype, device, shape):
                raise ContractError(
                    f"{name} was {dtype} {tuple(shape)} on {device} and is {tensor.dtype} {tuple(tensor.shape)} on "
                    f"{tensor.device}"
                )
            if name in self.digests and tensor_digest(tensor) != self.digests[name]:
                raise ContractError(f"{name} was changed, and the method may change {self.changes!r} only")
            if self.changes == "all" and tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ContractError(f"{name} holds NaN or infinity after pruning")


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _count_hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(
        sum(len(getattr(module, kind)) for kind in kinds) + ("forward" in vars(module)) for module in model.modules()
    )


def _generators() -> str:
    """A digest of the state of the global generators of torch, numpy and Python."""
    state = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state.update(torch.cuda.get_rng_state().numpy().tobytes())
    state.update(repr(random.getstate()).encode())
    state.update(repr(np.random.get_state()).encode())
    return state.hexdigest()
