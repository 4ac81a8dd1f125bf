"""The checks of every method after it has run: each rule of ``prunebench.hookspecs`` is measured, none is trusted."""

import hashlib
import io
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunebench.contract.leaks import leakable_state
from prunebench.contract.rules import Violation
from prunebench.errors import ContractError
from prunebench.pruning import NM, CalibrationData, Layer, Sparsity, UnknownMatrixError
from prunebench.pruning.callbacks import use_layer_watcher
from prunebench.pruning.layers import all_layers, target_of
from prunebench.pruning.offload import resident_tensors
from prunebench.pruning.sparsity import PatternError
from prunebench.records.record import MatrixCount, SparsityFacts


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 (hex) of a tensor's dtype, shape and bytes, on any device."""
    plain = tensor.detach().cpu().contiguous()
    head = f"{plain.dtype} {tuple(plain.shape)}".encode()
    return hashlib.sha256(head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


@dataclass
class Watch:
    """What a method did while it ran that is visible neither on the model nor on the data.

    Args:
        stdout: what it printed.
        unfinished: layers that were not pruned when the next one was asked for: (name, zeros, zeros asked for).
    """

    stdout: io.StringIO = field(default_factory=io.StringIO)
    unfinished: list[tuple[str, int, int]] = field(default_factory=list)

    def layer_finished(self, name: str, zeros: int, requested: int) -> None:
        """The layer watcher: ``calibrated`` was asked for what comes after a layer that was written to."""
        if zeros < requested:
            self.unfinished.append((name, zeros, requested))

    def state(self) -> list[Any]:
        """What was observed so far, as JSON, for ``restore``."""
        return [self.stdout.getvalue(), self.unfinished]

    def restore(self, state: list[Any]) -> None:
        """Continue from what was observed of an interrupted run."""
        self.stdout.seek(0)
        self.stdout.truncate()
        self.stdout.write(state[0])
        self.unfinished[:] = [(name, zeros, requested) for name, zeros, requested in state[1]]


@contextmanager
def watched() -> Iterator[Watch]:
    """Observe a method that runs inside this context; what it prints is captured."""
    watch = Watch()
    with redirect_stdout(watch.stdout), use_layer_watcher(watch.layer_finished):
        yield watch


@dataclass(frozen=True)
class Snapshot:
    """A model before pruning: what must be the same afterwards, how many zeros there were, and what is asked for.

    Args:
        sparsity: the pattern asked for.
        changes: what the method may change: "prunable", "all" or "nothing".
        tensors: dtype, device and shape of every parameter and buffer.
        digests: of the tensors that may not change.
        zeros: in each prunable matrix.
        modes: whether each module is in train mode.
        use_cache: of the model's configuration.
        hooks: number of hooks and patched forwards.
        generators: digest of the global generators' state.
        data: digest of the calibration data; None where there is none to compare.
        method_state: fingerprints of what the method's instance, class and module hold.
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
    method_state: dict[str, object]

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
        """The snapshot of a model before it is pruned, of the calibration data and of the method's instance."""
        layers, tensors = _layers_by_parameter(model), _tensors(model)
        for layer in chain(*layers.values()):
            target_of(layer, sparsity)
        digests, zeros = {}, {}
        for name, tensor in resident_tensors(model, sorted(tensors)):
            if changes == "nothing" or (changes == "prunable" and name not in layers):
                digests[name] = tensor_digest(tensor)
            for layer in layers.get(name, ()):
                zeros[layer.name] = int((layer.view(tensor.detach()) == 0).sum())
        return cls(
            sparsity=sparsity,
            changes=changes,
            tensors={name: (tensor.dtype, tensor.device, tensor.shape) for name, tensor in tensors.items()},
            digests=digests,
            zeros=zeros,
            modes={name: module.training for name, module in model.named_modules()},
            use_cache=getattr(getattr(model, "config", None), "use_cache", None),
            hooks=_count_hooks(model),
            generators=_generators_digest(),
            data=None if data is None else data.digest,
            method_state=leakable_state(method),
        )

    def verify(
        self,
        model: nn.Module,
        *,
        data: CalibrationData | None = None,
        method: object = None,
        watch: Watch | None = None,
    ) -> SparsityFacts:
        """Check every rule of ``contract.rules`` that the runner checks, after pruning.

        Returns:
            The zeros counted.

        Raises:
            ContractError: a rule is broken; the first one, with the measured value.
        """
        findings = self._inspect_tensors(model)
        for violation in self._violations(findings, model, data, method, watch):
            raise ContractError(violation.measured)
        matrices = {layer.name: findings.matrices[layer.name] for layer in all_layers(model)}
        zeros, numel = (sum(getattr(count, part) for count in matrices.values()) for part in ("zeros", "numel"))
        parameters = list(model.parameters())
        return SparsityFacts(
            requested=0.0 if self.changes == "nothing" else self.sparsity.ratio,
            reached=zeros / numel,
            whole_model=findings.zeros / sum(p.numel() for p in parameters),
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
        """Every violation of a rule of ``contract.rules`` after pruning; the easiest to understand first."""
        yield from self._violations(self._inspect_tensors(model), model, data, method, watch)

    def _violations(
        self, findings: "_Findings", model: nn.Module, data: CalibrationData | None, method: object, watch: Watch | None
    ) -> Iterator[Violation]:
        yield from self._check_surroundings(model, data, method)
        if watch is not None:
            yield from _check_watch(watch, prunes=self.changes != "nothing")
        yield from findings.in_tensors
        yield from findings.in_matrices

    def _check_surroundings(
        self, model: nn.Module, data: CalibrationData | None, method: object
    ) -> Iterator[Violation]:
        """Modes, configuration, hooks, global generators, calibration data and the method's own state."""
        if changed := [name for name, module in model.named_modules() if module.training != self.modes.get(name)]:
            yield Violation(
                "mode", f"the module {changed[0]!r} was left in another mode (train or eval) than it was found"
            )
        if getattr(getattr(model, "config", None), "use_cache", None) != self.use_cache:
            yield Violation("use_cache", f"config.use_cache was {self.use_cache} and was left otherwise")
        if (left := _count_hooks(model) - self.hooks) != 0:
            yield Violation("hooks", f"{left} hooks or patched forwards were left on the model")
        if _generators_digest() != self.generators:
            yield Violation("generators", "a global random generator was used: draw from one seeded by data.seed")
        if data is not None and data.digest != self.data:
            yield Violation("data", "the calibration data was changed")
        state = leakable_state(method)
        for name in sorted({*state, *self.method_state}):
            if state.get(name) != self.method_state.get(name):
                yield Violation("state", f"{name} was written to, which would leak into the next cell")

    def _inspect_tensors(self, model: nn.Module) -> "_Findings":
        """Check all tensors in one walk over them, for which blocks may be loaded from disk."""
        findings = _Findings()
        after = _tensors(model)
        if names := set(after) ^ set(self.tensors):
            violation = Violation("tensors", f"parameters were added or removed: {', '.join(sorted(names))}")
            findings.in_tensors.append(violation)
        failure: Exception | None = None
        layers: dict[str, list[Layer]] = {}
        try:
            layers = _layers_by_parameter(model)
        except (UnknownMatrixError, PatternError, RuntimeError) as error:  # matrices are missing or of another shape
            failure = error
        parameters = {name for name, _ in model.named_parameters()}
        in_tensors: dict[str, Violation] = {}
        in_matrices: dict[str, list[Violation]] = {}
        for name, tensor in resident_tensors(model, sorted(after)):
            if tensor_violation := self._check_tensor(name, after[name], tensor):
                in_tensors[name] = tensor_violation
            if name in parameters:
                findings.zeros += int((tensor == 0).sum())
            for layer in layers.get(name, ()):
                try:
                    W = layer.view(tensor.detach())
                    in_matrices[layer.name] = list(self._check_matrix(layer, W, findings.matrices))
                except (PatternError, RuntimeError) as error:
                    failure = error
        # In the model's order, which need not be that of the walk.
        findings.in_tensors += [in_tensors[name] for name in after if name in in_tensors]
        findings.in_matrices += chain(*(in_matrices.get(layer.name, ()) for layer in chain(*layers.values())))
        if failure is not None and all(violation.rule != "tensors" for violation in findings.in_tensors):
            findings.in_matrices.append(
                Violation("tensors", f"the prunable matrices are not as they were found: {failure}")
            )
        return findings

    def _check_matrix(self, layer: Layer, W: Tensor, matrices: dict[str, MatrixCount]) -> Iterator[Violation]:
        """Count the zeros of a prunable matrix into ``matrices``, and check them."""
        target = target_of(layer, self.sparsity)
        prunes, zeros, before = self.changes != "nothing", int((W == 0).sum()), self.zeros.get(layer.name, 0)
        matrices[layer.name] = MatrixCount(numel=W.numel(), zeros=zeros)
        if not torch.isfinite(W).all():
            yield Violation("finite", f"{layer.name} holds NaN or infinity after pruning")
            return
        # Weights that were zero before pruning may be among the kept ones.
        if prunes and not target.zeros <= zeros <= target.zeros + before:
            yield Violation(
                "zeros", f"{layer.name} holds {zeros} zeros where {target.zeros} of {W.numel()} were asked for"
            )
        if prunes and isinstance(target.pattern, NM):
            n, m = target.pattern.n, target.pattern.m
            worst = int((W.reshape(-1, m) != 0).sum(dim=1).max())
            if worst > n:
                yield Violation("groups", f"{layer.name} keeps {worst} weights in a group of {m} where {n} are allowed")

    def _check_tensor(self, name: str, parameter: Tensor, tensor: Tensor) -> Violation | None:
        """Check one parameter or buffer.

        Args:
            name: its name.
            parameter: the tensor as the model holds it, on the meta device where its block lies on disk.
            tensor: the same in memory.
        """
        if name not in self.tensors:
            return None
        dtype, device, shape = self.tensors[name]
        if (parameter.dtype, parameter.device, parameter.shape) != (dtype, device, shape):
            return Violation(
                "tensors",
                f"{name} was {dtype} {tuple(shape)} on {device} and is {parameter.dtype} {tuple(parameter.shape)} on "
                f"{parameter.device}",
            )
        if name in self.digests and tensor_digest(tensor) != self.digests[name]:
            return Violation("unchanged", f"{name} was changed, and the method may change {self.changes!r} only")
        if self.changes == "all" and tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return Violation("finite", f"{name} holds NaN or infinity after pruning")
        return None


@dataclass
class _Findings:
    """What was found in the tensors after pruning.

    Args:
        in_tensors: violations in parameters and buffers, in the model's order.
        in_matrices: violations in prunable matrices, in the model's order.
        matrices: weights and zeros of each prunable matrix.
        zeros: in all parameters.
    """

    in_tensors: list[Violation] = field(default_factory=list)
    in_matrices: list[Violation] = field(default_factory=list)
    matrices: dict[str, MatrixCount] = field(default_factory=dict)
    zeros: int = 0


def _check_watch(watch: Watch, *, prunes: bool) -> Iterator[Violation]:
    if printed := watch.stdout.getvalue():
        first = printed.strip().partition("\n")[0][:60]
        yield Violation("stdout", f"{len(printed)} characters were printed to stdout, beginning with {first!r}")
    for name, zeros, requested in watch.unfinished[:1] if prunes else ():
        yield Violation(
            "order", f"{name} held {zeros} zeros where {requested} were asked for when the next layer was asked for"
        )


def _layers_by_parameter(model: nn.Module) -> dict[str, list[Layer]]:
    """The prunable matrices in each parameter, by name of the parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers: dict[str, list[Layer]] = {}
    for layer in all_layers(model):
        layers.setdefault(names[id(layer.parameter)], []).append(layer)
    return layers


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _count_hooks(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(
        sum(len(getattr(module, kind)) for kind in kinds) + ("forward" in vars(module)) for module in model.modules()
    )


def _generators_digest() -> str:
    """SHA-256 (hex) of the state of the global generators of torch, numpy and Python."""
    state = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state.update(torch.cuda.get_rng_state().numpy().tobytes())
    state.update(repr(random.getstate()).encode())
    state.update(repr(np.random.get_state()).encode())
    return state.hexdigest()
