"""What the runner checks of every method, believing nothing: the contract of ``prunebench.hookspecs``."""

import hashlib
import io
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.errors import ContractError
from prunebench.keepsakes import keepsakes
from prunebench.pruning import NM, CalibrationData, Layer, Sparsity, Target, UnknownMatrixError, prunable
from prunebench.pruning.progress import watching_layers
from prunebench.pruning.sparsity import PatternError
from prunebench.record import MatrixCount, SparsityFacts
from prunebench.rules import Violation


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes, wherever it lies."""
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype} {tuple(plain.shape)}".encode()
    return hashlib.sha256(head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


@dataclass
class Watch:
    """What a method did while it ran that shows neither on the model nor on the data.

    Args:
        stdout: what it printed.
        unfinished: layers that were not pruned when the next one was asked for: (name, zeros held, zeros asked for).
    """

    stdout: io.StringIO = field(default_factory=io.StringIO)
    unfinished: list[tuple[str, int, int]] = field(default_factory=list)

    def passed(self, layer: Layer, target: Target) -> None:
        """``calibrated`` was asked for what comes after ``layer``."""
        zeros = int((layer.weight == 0).sum())
        if zeros < target.zeros:
            self.unfinished.append((layer.name, zeros, target.zeros))

    def state(self) -> list[Any]:
        """What was seen so far, as JSON, for ``restore``."""
        return [self.stdout.getvalue(), self.unfinished]

    def restore(self, state: list[Any]) -> None:
        """Go on from what was seen of an interrupted run."""
        self.stdout.seek(0)
        self.stdout.truncate()
        self.stdout.write(state[0])
        self.unfinished[:] = [(name, zeros, asked) for name, zeros, asked in state[1]]


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch what runs inside this context."""
    watch = Watch()
    with redirect_stdout(watch.stdout), watching_layers(watch.passed):
        yield watch


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
        data: of the calibration data; None where there is none to compare.
        kept: what the method's instance, class and module hold.
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
    data: str | None
    kept: dict[str, object]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        sparsity: Sparsity,
        changes: str,
        *,
        data: CalibrationData | None = None,
        method: object = None,
    ) -> "Snapshot":
        """Look at a model before it is pruned, and at the calibration data and the method's instance."""
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
            data=None if data is None else data.digest,
            kept=keepsakes(method),
        )

    def verify(
        self,
        model: nn.Module,
        *,
        data: CalibrationData | None = None,
        method: object = None,
        watch: Watch | None = None,
    ) -> SparsityFacts:
        """Compare what there is after pruning with this snapshot of it.

        Returns:
            The zeros counted.

        Raises:
            ContractError: the first rule that does not hold, with the measured value.
        """
        for violation in self.violations(model, data=data, method=method, watch=watch):
            raise ContractError(violation.measured)
        matrices = self._count(model)
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

    def violations(
        self,
        model: nn.Module,
        *,
        data: CalibrationData | None = None,
        method: object = None,
        watch: Watch | None = None,
    ) -> Iterator[Violation]:
        """Every rule of ``prunebench.rules`` that does not hold after pruning, and where; the plainest first."""
        yield from self._in_surroundings(model, data, method)
        if watch is not None:
            yield from _in_conduct(watch, prunes=self.changes != "nothing")
        tensors = list(self._in_tensors(model))
        yield from tensors
        try:
            yield from self._in_zeros(model)
        except (UnknownMatrixError, PatternError, RuntimeError) as error:  # matrices of another shape, or out of sight
            if all(violation.rule != "tensors" for violation in tensors):
                yield Violation("tensors", f"the prunable matrices are not as they were found: {error}")

    def _in_surroundings(self, model: nn.Module, data: CalibrationData | None, method: object) -> Iterator[Violation]:
        if changed := [name for name, module in model.named_modules() if module.training != self.modes.get(name)]:
            yield Violation(
                "mode", f"the module {changed[0]!r} was left in another mode (train or eval) than it was found"
            )
        if getattr(getattr(model, "config", None), "use_cache", None) != self.use_cache:
            yield Violation("use_cache", f"config.use_cache was {self.use_cache} and was left otherwise")
        if (left := _count_hooks(model) - self.hooks) != 0:
            yield Violation("hooks", f"{left} hooks or patched forwards were left on the model")
        if _generators() != self.generators:
            yield Violation("generators", "a global random generator was used: draw from one seeded by data.seed")
        if data is not None and data.digest != self.data:
            yield Violation("data", "the calibration data was changed")
        kept = keepsakes(method)
        for place in sorted({*kept, *self.kept}):
            if kept.get(place) != self.kept.get(place):
                yield Violation("state", f"{place} was written to, which would leak into the next cell")

    def _in_zeros(self, model: nn.Module) -> Iterator[Violation]:
        asked, counts = self.changes != "nothing", self._count(model)
        for layer, target in prunable(model, self.sparsity):
            W, zeros, before = layer.weight, counts[layer.name].zeros, self.zeros.get(layer.name, 0)
            if not torch.isfinite(W).all():
                yield Violation("finite", f"{layer.name} holds NaN or infinity after pruning")
                continue
            # Weights that were zero before pruning may stand among the kept ones.
            if asked and not target.zeros <= zeros <= target.zeros + before:
                yield Violation(
                    "zeros", f"{layer.name} holds {zeros} zeros where {target.zeros} of {W.numel()} were asked for"
                )
            if asked and isinstance(target.pattern, NM):
                n, m = target.pattern.n, target.pattern.m
                worst = int((W.reshape(-1, m) != 0).sum(dim=1).max())
                if worst > n:
                    yield Violation(
                        "groups", f"{layer.name} keeps {worst} weights in a group of {m} where {n} are allowed"
                    )

    def _count(self, model: nn.Module) -> dict[str, MatrixCount]:
        return {
            layer.name: MatrixCount(numel=layer.weight.numel(), zeros=int((layer.weight == 0).sum()))
            for layer, _ in prunable(model, self.sparsity)
        }

    def _in_tensors(self, model: nn.Module) -> Iterator[Violation]:
        after = _tensors(model)
        if set(after) != set(self.tensors):
            odd = ", ".join(sorted(set(after) ^ set(self.tensors)))
            yield Violation("tensors", f"parameters were added or removed: {odd}")
        for name, tensor in after.items():
            if name not in self.tensors:
                continue
            dtype, device, shape = self.tensors[name]
            if (tensor.dtype, tensor.device, tensor.shape) != (dtype, device, shape):
                yield Violation(
                    "tensors",
                    f"{name} was {dtype} {tuple(shape)} on {device} and is {tensor.dtype} {tuple(tensor.shape)} on "
                    f"{tensor.device}",
                )
            elif name in self.digests and tensor_digest(tensor) != self.digests[name]:
                yield Violation("unchanged", f"{name} was changed, and the method may change {self.changes!r} only")
            elif self.changes == "all" and tensor.is_floating_point() and not torch.isfinite(tensor).all():
                yield Violation("finite", f"{name} holds NaN or infinity after pruning")


def _in_conduct(watch: Watch, *, prunes: bool) -> Iterator[Violation]:
    if printed := watch.stdout.getvalue():
        first = printed.strip().partition("\n")[0][:60]
        yield Violation("stdout", f"{len(printed)} characters were printed to stdout, beginning with {first!r}")
    for name, zeros, asked in watch.unfinished[:1] if prunes else ():
        yield Violation(
            "order", f"{name} held {zeros} zeros where {asked} were asked for when the next layer was asked for"
        )


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
